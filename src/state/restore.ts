/** A verified snapshot to a database file of its own. */

import { closeSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { BangerError, errorText } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import { dumpInto, rowStart } from './dump.ts';
import { ErrVerify } from './errors.ts';
import { readPayload } from './payload-reader.ts';
import type { StateSchema } from './state-schema.ts';
import type { VerifiedSnapshot } from './verify.ts';

/**
 * Makes `path` (0600, must not exist) with the snapshot's rows at the snapshot's own schema version. The file is in
 * rollback-journal mode and has no sidecar; its bytes are durable, its name is not (the caller syncs the directory).
 * The database is built in memory: what is wrong with the snapshot is found before there is a file.
 * @throws {ErrVerify} `grammar`, `schema`, `rows`, `redump`
 * @throws {BangerError} of the file: `no_space`, `permission`, `already_exists`, `io_error`; there is no file then
 */
export function restoreToTempDb(snapshot: VerifiedSnapshot, path: string): void {
  writeNewFile(path, buildDatabase(snapshot));
}

/** The bytes of the database file. */
function buildDatabase({ manifest, payload, schema }: VerifiedSnapshot): Uint8Array {
  using database = new DatabaseSync(':memory:', { enableForeignKeyConstraints: false });
  // Nothing is rolled back: a database that is not finished is thrown away.
  database.exec('PRAGMA journal_mode = OFF; BEGIN');
  for (const { sql } of schema.tables) database.exec(sql);
  const counts = insertRows(database, payload, schema);
  assertCounts(counts, manifest.table_counts);
  try {
    for (const { sql } of schema.indexes) database.exec(sql);
  } catch (cause) {
    throw new ErrVerify('rows', errorText(cause), { cause });
  }
  database.exec(`PRAGMA user_version = ${manifest.control_version}; COMMIT`);
  assertRedump(database, schema, payload);
  return database.serialize();
}

function insertRows(
  database: DatabaseSync,
  payload: Buffer,
  schema: StateSchema,
): Readonly<Record<string, number>> {
  const inserts = new Map(
    schema.tables.map(({ name, columns }) => [name, new Inserter(database, name, columns.length)]),
  );
  return readPayload(payload, schema, (table, values, textAsBytes) => {
    try {
      inserts.get(table)?.insert(values, textAsBytes);
    } catch (cause) {
      throw new ErrVerify('rows', `a row of ${table}: ${errorText(cause)}`, { cause });
    }
  });
}

class Inserter {
  readonly #database: DatabaseSync;
  readonly #table: string;
  readonly #columns: number;
  readonly #plain: StatementSync;

  constructor(database: DatabaseSync, table: string, columns: number) {
    this.#database = database;
    this.#table = table;
    this.#columns = columns;
    this.#plain = this.#prepare([]);
  }

  insert(values: readonly SQLInputValue[], textAsBytes: readonly number[]): void {
    const statement = textAsBytes.length === 0 ? this.#plain : this.#prepare(textAsBytes);
    statement.run(...values);
  }

  #prepare(textAsBytes: readonly number[]): StatementSync {
    const values = Array.from({ length: this.#columns }, (_, index) =>
      textAsBytes.includes(index) ? 'CAST(? AS TEXT)' : '?',
    );
    return this.#database.prepare(`${rowStart(this.#table)}${values.join()})`);
  }
}

function assertCounts(
  found: Readonly<Record<string, number>>,
  expected: Readonly<Record<string, number>>,
): void {
  for (const table of new Set([...Object.keys(found), ...Object.keys(expected)])) {
    if (found[table] === expected[table]) continue;
    const message = `${found[table] ?? 0} rows of ${JSON.stringify(table)}, where the manifest says ${expected[table] ?? 'nothing'}`;
    throw new ErrVerify('rows', message);
  }
}

/** Byte for byte, which is more than a digest says. */
function assertRedump(database: DatabaseSync, schema: StateSchema, payload: Buffer): void {
  let offset = 0;
  dumpInto(database, schema, (chunk) => {
    if (!chunk.equals(payload.subarray(offset, offset + chunk.length))) {
      throw new ErrVerify(
        'redump',
        `the rows do not come back as they were, near byte ${offset} of the payload`,
      );
    }
    offset += chunk.length;
  });
  if (offset !== payload.length) throw new ErrVerify('redump', 'some rows do not come back');
}

function writeNewFile(path: string, bytes: Uint8Array): void {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new BangerError('already_exists', `${path} exists already`, { cause: error });
    }
    throw fileError(`cannot make ${path}`, error);
  }
  try {
    for (let written = 0; written < bytes.byteLength; ) written += writeSync(descriptor, bytes, written);
    fsyncSync(descriptor);
    closeSync(descriptor);
  } catch (error) {
    rmSync(path, { force: true });
    throw fileError(`cannot write ${path}`, error);
  }
}
