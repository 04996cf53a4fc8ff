/** A database as canonical SQL text: one text for one logical state, whatever made it. */

import type { DatabaseSync } from 'node:sqlite';
import { BangerError } from '../core/errors.ts';
import { isPlainText, literal, type StoredValue } from './literal.ts';
import { digestOf } from '../oci/digest.ts';
import { MAX_PAYLOAD_BYTES } from './manifest.ts';
import { assertSchema, ddl, HISTORY_TABLE, type StateSchema, type TableSchema } from './state-schema.ts';
import { type StandIn, VOLATILE } from './volatile.ts';

export const PROLOGUE = 'PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n';
export const EPILOGUE = 'COMMIT;\n';
/** Of one INSERT statement, both when writing and when reading. Our rows have some hundred bytes. */
export const MAX_ROW_BYTES = 16 * 1024 * 1024;

const ROW_END = Buffer.from(');\n');

export interface CanonicalDump {
  readonly payload: Buffer;
  /** `sha256:<hex>` of the payload. */
  readonly sha256: string;
  /** Rows per table. */
  readonly counts: Readonly<Record<string, number>>;
}

/** What is before the rows of a payload, and what after them. */
export function frameOf(schema: StateSchema): { readonly head: Buffer; readonly tail: Buffer } {
  return {
    head: Buffer.from(PROLOGUE + ddl(schema.tables)),
    tail: Buffer.from(ddl(schema.indexes) + EPILOGUE),
  };
}

/** `INSERT INTO "vms" VALUES(` */
export function rowStart(table: string): string {
  return `INSERT INTO "${table.replaceAll('"', '""')}" VALUES(`;
}

/**
 * Dumps inside the caller's read transaction, so that it is one moment of the database.
 * @throws {BangerError} `unsupported` (the schema is not that of the level), `limit_exceeded` (too large to restore)
 */
export function canonicalDump(database: DatabaseSync, schema: StateSchema): CanonicalDump {
  const chunks: Buffer[] = [];
  const counts = dumpInto(database, schema, (chunk) => chunks.push(chunk));
  const payload = Buffer.concat(chunks);
  return { payload, sha256: digestOf(payload), counts };
}

/** The dump in pieces of about a mebibyte, which `sink` may keep. Errors as `canonicalDump`. */
export function dumpInto(
  database: DatabaseSync,
  schema: StateSchema,
  sink: (chunk: Buffer) => void,
): Readonly<Record<string, number>> {
  assertSchema(database, schema);
  const { head, tail } = frameOf(schema);
  const writer = new ChunkWriter(sink);
  writer.write(head);
  const counts: Record<string, number> = {};
  for (const table of schema.tables) {
    counts[table.name] =
      table.name === HISTORY_TABLE ? writeHistory(writer, schema) : writeTable(writer, database, table);
  }
  writer.write(tail);
  writer.end();
  return counts;
}

/** Gathers lines: 150,000 small buffers would cost more than the dump. */
class ChunkWriter {
  readonly #sink: (chunk: Buffer) => void;
  #chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  #used = 0;
  #total = 0;

  constructor(sink: (chunk: Buffer) => void) {
    this.#sink = sink;
  }

  write(bytes: Uint8Array): void {
    this.#total += bytes.byteLength;
    if (this.#total > MAX_PAYLOAD_BYTES) {
      throw new BangerError('limit_exceeded', `the state is larger than ${MAX_PAYLOAD_BYTES} bytes`);
    }
    if (this.#used + bytes.byteLength > CHUNK_BYTES) this.#flush();
    if (bytes.byteLength > CHUNK_BYTES) {
      this.#sink(Buffer.from(bytes));
      return;
    }
    this.#chunk.set(bytes, this.#used);
    this.#used += bytes.byteLength;
  }

  end(): void {
    this.#flush();
  }

  #flush(): void {
    if (this.#used === 0) return;
    this.#sink(this.#chunk.subarray(0, this.#used));
    this.#chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    this.#used = 0;
  }
}
const CHUNK_BYTES = 1024 * 1024;

/** From the list of migrations and not from the rows: when they ran, and what the Go program called them, is no state. */
function writeHistory(writer: ChunkWriter, { history }: StateSchema): number {
  for (const { id, name } of history) {
    writer.write(Buffer.from(`${rowStart(HISTORY_TABLE)}${id},'${name.replaceAll("'", "''")}','');\n`));
  }
  return history.length;
}

function writeTable(writer: ChunkWriter, database: DatabaseSync, table: TableSchema): number {
  let rows = 0;
  const write = (line: Uint8Array): void => {
    if (line.byteLength > MAX_ROW_BYTES) {
      throw new BangerError('limit_exceeded', `a row of ${table.name} has more than ${MAX_ROW_BYTES} bytes`);
    }
    writer.write(line);
    rows += 1;
  };
  const fast = database.prepare(lineSql(table));
  fast.setReturnArrays(true);
  for (const [line] of fast.iterate() as Iterable<readonly unknown[]>) {
    // Rows with what SQLite cannot spell as we do: all from here on go the long way.
    if (!(line instanceof Uint8Array) || !isPlainText(line)) {
      for (const slow of slowLines(database, table, rows)) write(slow);
      break;
    }
    write(line);
  }
  return rows;
}

function valuesOf(table: TableSchema): readonly StandIn[] {
  return table.columns.map(
    (column) => VOLATILE[table.name]?.[column] ?? { sql: quoted(column), plain: false },
  );
}

function orderOf(table: TableSchema): string {
  return table.key.map((index) => `${quoted(table.columns[index] as string)} COLLATE BINARY`).join();
}

/** SQLite makes the whole line, which is several times as fast as one value after the other; NULL where it has a real. */
function lineSql(table: TableSchema): string {
  const values = valuesOf(table);
  const spelled = values.map(({ sql, plain }) => {
    if (plain) return `'''' || ${sql} || ''''`;
    return `CASE typeof(${sql}) WHEN 'text' THEN '''' || replace(${sql}, '''', '''''') || ''''
      WHEN 'real' THEN NULL ELSE quote(${sql}) END`;
  });
  const start = rowStart(table.name).replaceAll("'", "''");
  return `SELECT CAST('${start}' || ${spelled.join(" || ',' || ")} || ');' || char(10) AS BLOB)
    FROM ${quoted(table.name)} ORDER BY ${orderOf(table)}`;
}

function* slowLines(database: DatabaseSync, table: TableSchema, skip: number): Iterable<Buffer> {
  const values = valuesOf(table);
  const parts = values.map(
    ({ sql }) => `typeof(${sql}), CASE typeof(${sql}) WHEN 'text' THEN CAST(${sql} AS BLOB) ELSE ${sql} END`,
  );
  const select = database.prepare(
    `SELECT ${parts.join()} FROM ${quoted(table.name)} ORDER BY ${orderOf(table)} LIMIT -1 OFFSET ?`,
  );
  select.setReturnArrays(true);
  select.setReadBigInts(true);
  const start = Buffer.from(rowStart(table.name));
  for (const row of select.iterate(skip) as Iterable<readonly unknown[]>) {
    const pieces: Buffer[] = [start];
    for (let index = 0; index < row.length; index += 2) {
      if (index > 0) pieces.push(COMMA);
      pieces.push(literal(stored(row[index], row[index + 1])));
    }
    yield Buffer.concat([...pieces, ROW_END]);
  }
}
const COMMA = Buffer.from(',');

function stored(type: unknown, value: unknown): StoredValue {
  if (type === 'text') return { text: value as Uint8Array };
  if (type === 'blob') return { blob: value as Uint8Array };
  return value as null | bigint | number;
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
