/** Statements and transactions on one connection. */

import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';

/** A row as SQLite hands it over: hostile until checked. */
export type Row = Readonly<Record<string, unknown>>;

const statements = new WeakMap<DatabaseSync, Map<string, StatementSync>>();

/** Prepared once per connection. `sql` is a constant of ours, never built from input. */
function statement(database: DatabaseSync, sql: string): StatementSync {
  let ofDatabase = statements.get(database);
  if (ofDatabase === undefined) {
    ofDatabase = new Map();
    statements.set(database, ofDatabase);
  }
  let prepared = ofDatabase.get(sql);
  if (prepared === undefined) {
    prepared = database.prepare(sql);
    ofDatabase.set(sql, prepared);
  }
  return prepared;
}

export function selectAll(
  database: DatabaseSync,
  sql: string,
  ...values: readonly SQLInputValue[]
): readonly Row[] {
  return statement(database, sql).all(...values);
}

export function selectOne(
  database: DatabaseSync,
  sql: string,
  ...values: readonly SQLInputValue[]
): Row | undefined {
  return statement(database, sql).get(...values);
}

/** Runs a write; returns how many rows it changed. */
export function change(database: DatabaseSync, sql: string, ...values: readonly SQLInputValue[]): number {
  return Number(statement(database, sql).run(...values).changes);
}

/**
 * Runs `work` in a transaction that holds the write lock from its start, so that what it reads stays true until it
 * commits. `work` is synchronous on purpose: nothing else of this process runs in between.
 */
export function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('BEGIN IMMEDIATE');
  try {
    const result = work();
    database.exec('COMMIT');
    return result;
  } catch (error) {
    // SQLite itself rolls back after some errors (SQLITE_FULL, SQLITE_IOERR).
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

/** `user_version` is a signed 32-bit integer in the header: https://sqlite.org/fileformat2.html, section 1.3. */
export const MAX_CONTROL_VERSION = 2 ** 31 - 1;

/**
 * A transaction that raises the control version by one when `work` changed a row: every durable write goes through
 * here, so that of two states of one database the later one is known.
 */
export function durableTransaction<T>(database: DatabaseSync, work: () => T): T {
  return transaction(database, () => {
    const before = rowsChanged(database);
    const result = work();
    if (rowsChanged(database) !== before) raiseControlVersion(database);
    return result;
  });
}

/** To be called inside a transaction. Stays at its largest value once there. */
export function raiseControlVersion(database: DatabaseSync): void {
  const current = Number(selectOne(database, 'PRAGMA user_version')?.['user_version']);
  // Another program may have put anything there.
  const next = Math.min(Math.max(current, 0) + 1, MAX_CONTROL_VERSION);
  if (next !== current) database.exec(`PRAGMA user_version = ${next}`);
}

function rowsChanged(database: DatabaseSync): unknown {
  return selectOne(database, 'SELECT total_changes() AS count')?.['count'];
}
