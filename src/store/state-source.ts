/** Where to read the state from: the daemon's own connection, or a view of the file that leaves it untouched. */

import assert from 'node:assert/strict';
import type { DatabaseSync } from 'node:sqlite';
import { storeError } from './errors.ts';
import { openReadOnlyView, type ViewOptions } from './read-only-view.ts';

export interface StateSource {
  /**
   * Runs `work`, which is synchronous and only reads, in one read transaction: everything it sees is of one moment.
   * Undefined when there is no database.
   * @throws {BangerError} see openReadOnlyView; what `work` throws, SQLite's errors in our words
   */
  read<T>(work: (database: DatabaseSync) => T): Promise<T | undefined>;
}

/** Reads a copy of the database at `path`, made anew for every read. */
export function viewSource(path: string, options: ViewOptions = {}): StateSource {
  return {
    read: async (work) => {
      using view = await openReadOnlyView(path, options);
      return view === undefined ? undefined : readTransaction(view.database, path, work);
    },
  };
}

/** `work` inside one read transaction of `database`, which refuses writes meanwhile. Reads do not nest. */
export function readTransaction<T>(
  database: DatabaseSync,
  path: string,
  work: (database: DatabaseSync) => T,
): T {
  assert(!database.isTransaction, 'a read inside of another transaction');
  const wasQueryOnly = database.prepare('PRAGMA query_only').get()?.['query_only'] === 1;
  database.exec('PRAGMA query_only = ON; BEGIN');
  try {
    const result = work(database);
    assert(!(result instanceof Promise), 'the work of a read must be synchronous');
    return result;
  } catch (error) {
    throw storeError(path, error);
  } finally {
    if (database.isTransaction) database.exec('ROLLBACK');
    if (!wasQueryOnly) database.exec('PRAGMA query_only = OFF');
  }
}
