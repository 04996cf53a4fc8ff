/** SQLite's order of values of any type, with the collation BINARY: https://sqlite.org/datatype3.html, section 4.1. */

import type { SQLInputValue } from 'node:sqlite';

/** A value of a primary key. Text that is not UTF-8 has no string. */
export type KeyValue = null | bigint | number | string | { readonly rank: 2 | 3; readonly bytes: Uint8Array };

/** @param isText whether bytes stand for text */
export function keyValue(value: SQLInputValue, isText: boolean): KeyValue {
  if (value === null || typeof value !== 'object') return value;
  const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return { rank: isText ? 2 : 3, bytes };
}

/** Whether a row with the first key stands strictly before one with the second. */
export function isBefore(first: readonly KeyValue[], second: readonly KeyValue[]): boolean {
  for (const [index, value] of second.entries()) {
    const order = compare(first[index] as KeyValue, value);
    if (order !== 0) return order < 0;
  }
  return false;
}

function compare(a: KeyValue, b: KeyValue): number {
  if (typeof a === 'string' && typeof b === 'string') return compareText(a, b);
  const ranks = rank(a) - rank(b);
  if (ranks !== 0 || a === null || b === null) return ranks;
  if (rank(a) > 1) return Buffer.compare(bytesOf(a), bytesOf(b));
  // JavaScript compares a bigint with a number by their mathematical values, as SQLite does.
  if (a < b) return -1;
  return a > b ? 1 : 0;
}

/** NULL, numbers, text, bytes. */
function rank(value: KeyValue): number {
  if (value === null) return 0;
  if (typeof value === 'string') return 2;
  return typeof value === 'object' ? value.rank : 1;
}

/** Code units have the order of UTF-8 bytes but where surrogates meet what lies behind them. */
const SURROGATE_OR_BEHIND = /[\ud800-\uffff]/;

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  if (SURROGATE_OR_BEHIND.test(a) || SURROGATE_OR_BEHIND.test(b)) {
    return Buffer.compare(Buffer.from(a), Buffer.from(b));
  }
  return a < b ? -1 : 1;
}

function bytesOf(value: KeyValue): Uint8Array {
  if (typeof value === 'string') return Buffer.from(value);
  return (value as { readonly bytes: Uint8Array }).bytes;
}
