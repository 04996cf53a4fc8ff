/** What a migration is. */

import type { DatabaseSync } from 'node:sqlite';

export interface Migration {
  /** Recorded in schema_migrations. Never changed, never reused. 1–99 belong to the Go program's history. */
  readonly id: number;
  readonly name: string;
  /** Runs inside a transaction of its own, together with the row that records it. */
  readonly apply: (database: DatabaseSync) => void;
}

/** The table that records which migrations a database has. */
export const HISTORY_SQL =
  'CREATE TABLE IF NOT EXISTS schema_migrations (id INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)';

/** Names of a table's columns; none when there is no such table. */
export function columnsOf(database: DatabaseSync, table: string): ReadonlySet<string> {
  const rows = database.prepare('SELECT name FROM pragma_table_info(?)').all(table);
  return new Set(rows.map((row) => String(row['name'])));
}
