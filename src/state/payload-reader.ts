/** Reads the rows of a payload without running any of it: a fixed frame, then nothing but literals. */

import { isAscii, isUtf8 } from 'node:buffer';
import type { SQLInputValue } from 'node:sqlite';
import { frameOf, MAX_ROW_BYTES, PROLOGUE, rowStart } from './dump.ts';
import { ErrVerify, type VerifyReason } from './errors.ts';
import { isPlainText, readNumber } from './literal.ts';
import type { StateSchema, TableSchema } from './state-schema.ts';

/**
 * @param values integers are bigints; they are the callee's to keep
 * @param textAsBytes indexes of values that are bytes but stand for text, which has no string (it is not UTF-8)
 */
export type OnRow = (table: string, values: readonly SQLInputValue[], textAsBytes: readonly number[]) => void;

/**
 * Calls `onRow` for each row, in order.
 * @returns rows per table
 * @throws {ErrVerify} `schema` (the DDL), `rows` (not in strict order of the primary key), `grammar` (all else), with
 *   the byte offset in the message; rows before it were handed over
 */
export function readPayload(
  payload: Buffer,
  schema: StateSchema,
  onRow: OnRow,
): Readonly<Record<string, number>> {
  throw new Error('being written');
}
