/** The schema a database must have to be dumped or restored: what our own migrations make of an empty one. */

import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { BangerError } from '../core/errors.ts';
import { HISTORY_SQL, type Migration } from '../store/migrations/migration.ts';
import { selectAll } from '../store/sql.ts';
import { digestOf } from '../oci/digest.ts';

export interface TableSchema {
  readonly name: string;
  /** As in sqlite_schema, byte for byte; no semicolon. */
  readonly sql: string;
  readonly columns: readonly string[];
  /** Indexes into `columns` of the primary key's, in its order. Rows of a dump are in the order of these values. */
  readonly key: readonly number[];
}

export interface IndexSchema {
  readonly name: string;
  readonly sql: string;
}

export interface StateSchema {
  /** Id of the last migration that is applied. */
  readonly level: number;
  /** Sorted by name, as are the indexes. */
  readonly tables: readonly TableSchema[];
  readonly indexes: readonly IndexSchema[];
  /** Migrations up to the level: the rows of schema_migrations in a dump. */
  readonly history: readonly Pick<Migration, 'id' | 'name'>[];
  /** `sha256:<hex>` of the DDL, in the order of a dump. */
  readonly digest: string;
}

/** The table that records migrations. */
export const HISTORY_TABLE = 'schema_migrations';

/** Found once: a restore asks for the same schema several times, and to find it all migrations run. */
const known = new WeakMap<readonly Migration[], Map<number, StateSchema>>();

/** The reference for databases of that level, which must be the id of one of the migrations. */
export function schemaAt(migrations: readonly Migration[], level: number): StateSchema {
  const ofThese = known.get(migrations) ?? new Map<number, StateSchema>();
  known.set(migrations, ofThese);
  const schema = ofThese.get(level) ?? findSchema(migrations, level);
  ofThese.set(level, schema);
  return schema;
}

function findSchema(migrations: readonly Migration[], level: number): StateSchema {
  const history = migrations.filter((migration) => migration.id <= level);
  assert.equal(history.at(-1)?.id, level, `no migration has the id ${level}`);
  using database = new DatabaseSync(':memory:');
  database.exec(HISTORY_SQL);
  for (const migration of history) migration.apply(database);
  const objects = schemaObjects(database);
  // Its counter would be state that no statement of a dump restores.
  assert.ok(!objects.some(({ sql }) => /\bAUTOINCREMENT\b/i.test(sql)), 'a table has AUTOINCREMENT');
  const tables = objects.filter(({ type }) => type === 'table').map((table) => tableSchema(database, table));
  const indexes = objects.filter(({ type }) => type === 'index').map(({ name, sql }) => ({ name, sql }));
  assert.equal(tables.length + indexes.length, objects.length, 'a dump has tables and indexes only');
  return {
    level,
    tables,
    indexes,
    history: history.map(({ id, name }) => ({ id, name })),
    digest: digestOf(ddl(tables) + ddl(indexes)),
  };
}

/** Statements as they stand in a dump. */
export function ddl(objects: readonly { readonly sql: string }[]): string {
  return objects.map(({ sql }) => `${sql};\n`).join('');
}

interface SchemaObject {
  readonly type: string;
  readonly name: string;
  readonly sql: string;
}

/** All but what SQLite makes by itself (indexes of constraints, statistics), sorted by name. */
function schemaObjects(database: DatabaseSync): readonly SchemaObject[] {
  const sql = `SELECT type, name, sql FROM sqlite_schema WHERE substr(lower(name), 1, 7) <> 'sqlite_'
    ORDER BY name COLLATE BINARY`;
  return selectAll(database, sql).map((row) => ({
    type: String(row['type']),
    name: String(row['name']),
    sql: String(row['sql']),
  }));
}

function tableSchema(database: DatabaseSync, { name, sql }: SchemaObject): TableSchema {
  const columns = selectAll(database, 'SELECT * FROM pragma_table_xinfo(?) ORDER BY cid', name);
  assert.ok(
    columns.every((column) => column['hidden'] === 0),
    `${name} has a generated column`,
  );
  const key = columns
    .map((column, index) => ({ index, rank: Number(column['pk']), column }))
    .filter(({ rank }) => rank > 0)
    .sort((a, b) => a.rank - b.rank);
  assert.ok(key.length > 0, `${name} has no primary key`);
  // A key column that takes NULL takes it more than once, and rows would have no one order.
  const isRowid = key.length === 1 && key[0]?.column['type'] === 'INTEGER';
  assert.ok(
    isRowid || key.every(({ column }) => column['notnull'] === 1),
    `the primary key of ${name} takes NULL`,
  );
  return {
    name,
    sql,
    columns: columns.map((column) => String(column['name'])),
    key: key.map(({ index }) => index),
  };
}

/**
 * The level of a database: the id of the last migration it has, all before which it must have too.
 * @throws {BangerError} `unsupported` (no history, or one with a gap), `version_mismatch` (of a newer program)
 */
export function levelOf(database: DatabaseSync, migrations: readonly Migration[]): number {
  const known = selectAll(
    database,
    "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?",
    HISTORY_TABLE,
  );
  if (known.length === 0)
    throw new BangerError('unsupported', `not a state database: it has no ${HISTORY_TABLE}`);
  const ids = selectAll(
    database,
    'SELECT CAST(id AS TEXT) AS id FROM schema_migrations ORDER BY schema_migrations.id',
  ).map((row) => Number(row['id']));
  const level = ids.at(-1) ?? 0;
  const newest = migrations.at(-1)?.id ?? 0;
  if (level > newest) {
    throw new BangerError(
      'version_mismatch',
      `the database has schema version ${level}; this program knows schema version ${newest}`,
      { hint: 'use the banger that wrote it, or a newer one' },
    );
  }
  const expected = migrations.filter(({ id }) => id <= level).map(({ id }) => id);
  if (level > 0 && expected.join() === ids.join()) return level;
  throw new BangerError(
    'unsupported',
    `the database has migrations ${ids.join(', ') || '(none)'}, which is not how this program's begin`,
  );
}

/**
 * Nothing of a database is skipped in a dump: what is not known is an error.
 * @throws {BangerError} `unsupported`, naming the table, index, view or trigger
 */
export function assertSchema(database: DatabaseSync, schema: StateSchema): void {
  const encoding = selectAll(database, 'PRAGMA encoding')[0]?.['encoding'];
  if (encoding !== 'UTF-8') {
    throw new BangerError('unsupported', `the database keeps text as ${String(encoding)}, not as UTF-8`);
  }
  const wanted = new Map([...schema.tables, ...schema.indexes].map(({ name, sql }) => [name, sql]));
  for (const { type, name, sql } of schemaObjects(database)) {
    const expected = wanted.get(name);
    if (expected === undefined) {
      throw new BangerError(
        'unsupported',
        `the database has a ${type} that is not ours: ${JSON.stringify(name)}`,
      );
    }
    if (sql !== expected) {
      throw new BangerError(
        'unsupported',
        `the ${type} ${name} is not as schema version ${schema.level} has it`,
      );
    }
    wanted.delete(name);
  }
  const [missing] = wanted.keys();
  if (missing !== undefined) throw new BangerError('unsupported', `the database lacks ${missing}`);
}
