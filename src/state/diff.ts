/** How two states differ, row by row. */

import { createHash } from 'node:crypto';
import type { SQLInputValue } from 'node:sqlite';
import { type Cell, cellOf, type ColumnChange, diffCells } from './diff-values.ts';
import { readPayload } from './payload-reader.ts';
import type { StateSchema, TableSchema } from './state-schema.ts';

/** A verified snapshot, or a fresh dump. */
export interface StateContent {
  readonly payload: Buffer;
  readonly schema: StateSchema;
}

export interface RowChange {
  readonly table: string;
  /** The row's name where it has one, else its key. */
  readonly row: string;
  readonly change: 'added' | 'removed' | 'changed';
  /** Only of `changed`. */
  readonly columns: readonly ColumnChange[];
}

export interface StateChanges {
  /** Tables by name, rows by key. */
  readonly rows: readonly RowChange[];
  /** More rows differ than are listed, or more values of a row. */
  readonly truncated: boolean;
}

const MAX_ROWS = 10_000;
/** Of a row: a value in JSON may have any number of fields. */
const MAX_COLUMNS = 100;
const MAX_NAME_LENGTH = 200;
/** Names a row for a person, where the table has such a column and it holds a text. */
const NAME_COLUMN = 'name';

type Row = readonly Cell[];

/**
 * Both are read in whole, twice the first; besides what is listed, a key and a digest of each row are held.
 * @throws {ErrVerify} a payload is not what its schema says
 */
export function diffStates(from: StateContent, to: StateContent): StateChanges {
  const differ = new Differ(to);
  // One that is new is found while reading `to`; what became of the old ones only after that.
  readRows(from, (table, row) => differ.remember(table, row));
  readRows(to, (table, row) => differ.compare(table, row));
  if (differ.hasOpen) readRows(from, (table, row) => differ.resolve(table, row));
  return differ.changes();
}

function readRows({ payload, schema }: StateContent, onRow: (table: TableSchema, row: Row) => void): void {
  const tables = new Map(schema.tables.map((table) => [table.name, table]));
  readPayload(payload, schema, (name, values, textAsBytes) => {
    const table = tables.get(name);
    if (table !== undefined) onRow(table, cells(values, textAsBytes));
  });
}

function cells(values: readonly SQLInputValue[], textAsBytes: readonly number[]): Row {
  return values.map((value, index) => cellOf(value, textAsBytes.includes(index)));
}

interface Found {
  readonly sortKey: string;
  readonly change: RowChange;
}

class Differ {
  readonly #to: ReadonlyMap<string, TableSchema>;
  /** Rows of `from` that no row of `to` equals so far: key to digest. */
  readonly #open = new Map<string, string>();
  /** Rows of `to` whose key `from` has with other values. */
  readonly #changed = new Map<string, Row>();
  readonly #found: Found[] = [];
  #truncated = false;

  constructor(to: StateContent) {
    this.#to = new Map(to.schema.tables.map((table) => [table.name, table]));
  }

  get hasOpen(): boolean {
    return this.#open.size > 0;
  }

  remember(table: TableSchema, row: Row): void {
    this.#open.set(keyOf(table, row), rowDigest(table, row));
  }

  compare(table: TableSchema, row: Row): void {
    const key = keyOf(table, row);
    const digest = this.#open.get(key);
    if (digest === undefined)
      this.#add(key, { table: table.name, row: nameOf(table, row), change: 'added', columns: [] });
    else if (digest === rowDigest(table, row)) this.#open.delete(key);
    else if (this.#changed.size < MAX_ROWS) this.#changed.set(key, row);
    else {
      this.#truncated = true;
      this.#open.delete(key);
    }
  }

  resolve(table: TableSchema, before: Row): void {
    const key = keyOf(table, before);
    if (!this.#open.has(key)) return;
    const after = this.#changed.get(key);
    const tableAfter = this.#to.get(table.name);
    if (after === undefined || tableAfter === undefined) {
      this.#add(key, { table: table.name, row: nameOf(table, before), change: 'removed', columns: [] });
      return;
    }
    const columns = columnChanges(table, before, tableAfter, after);
    if (columns.length > MAX_COLUMNS) this.#truncated = true;
    this.#add(key, {
      table: table.name,
      row: nameOf(tableAfter, after),
      change: 'changed',
      columns: columns.slice(0, MAX_COLUMNS),
    });
  }

  changes(): StateChanges {
    const sorted = this.#found.toSorted((a, b) => (a.sortKey < b.sortKey ? -1 : 1));
    return { rows: sorted.map(({ change }) => change), truncated: this.#truncated };
  }

  #add(sortKey: string, change: RowChange): void {
    if (this.#found.length < MAX_ROWS) this.#found.push({ sortKey, change });
    else this.#truncated = true;
  }
}

/** Of the table and its primary key. NUL separates: a table's name has none, and a cell that has one is quoted. */
function keyOf(table: TableSchema, row: Row): string {
  return [table.name, ...table.key.map((index) => JSON.stringify(row[index]))].join('\0');
}

/** With the columns' names: two schema versions may have the same values in other columns. */
function rowDigest(table: TableSchema, row: Row): string {
  const hash = createHash('sha256');
  return hash.update(JSON.stringify([table.columns, row])).digest('base64');
}

function nameOf(table: TableSchema, row: Row): string {
  const name = row[table.columns.indexOf(NAME_COLUMN)];
  const shown = name?.kind === 'text' ? [name] : table.key.flatMap((index) => row[index] ?? []);
  return shown
    .map(({ text }) => text)
    .join(',')
    .slice(0, MAX_NAME_LENGTH);
}

/** In the order of the later table's columns, then those only the earlier one has. */
function columnChanges(
  tableBefore: TableSchema,
  before: Row,
  tableAfter: TableSchema,
  after: Row,
): readonly ColumnChange[] {
  const names = [...new Set([...tableAfter.columns, ...tableBefore.columns])];
  return names.flatMap((name) =>
    diffCells(name, before[tableBefore.columns.indexOf(name)], after[tableAfter.columns.indexOf(name)]),
  );
}
