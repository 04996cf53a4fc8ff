/** Reads the rows of a payload without running any of it: a fixed frame, then nothing but literals. */

import { isAscii, isUtf8 } from 'node:buffer';
import type { SQLInputValue } from 'node:sqlite';
import { frameOf, MAX_ROW_BYTES, PROLOGUE, rowStart } from './dump.ts';
import { ErrVerify, type VerifyReason } from './errors.ts';
import { isBefore, type KeyValue, keyValue } from './key-order.ts';
import { isPlainText, readNumber } from './literal.ts';
import type { StateSchema, TableSchema } from './state-schema.ts';

/**
 * @param values integers are bigints; the array is the callee's to keep
 * @param textAsBytes indexes of values that are bytes but stand for text, which has no string as it is not UTF-8
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
  const { head, tail } = frameOf(schema);
  demand(payload, 0, head);
  const end = payload.length - tail.length;
  for (const byte of [0, 0x0d]) {
    const at = payload.indexOf(byte);
    if (at >= 0) throw refused('grammar', at, byte === 0 ? 'a NUL' : 'a carriage return');
  }
  const reader = new RowReader(payload, head.length, Math.max(end, head.length));
  const counts: Record<string, number> = {};
  for (const table of schema.tables) {
    counts[table.name] = reader.readTable(table, (values, textAsBytes) => {
      onRow(table.name, values, textAsBytes);
    });
  }
  if (reader.offset < end) throw refused('grammar', reader.offset, 'neither a row nor the end of the rows');
  demand(payload, reader.offset, tail);
  return counts;
}

function refused(reason: VerifyReason, offset: number, message: string): ErrVerify {
  return new ErrVerify(reason, `${message}, at byte ${offset} of the payload`);
}

/** The payload has these bytes at that offset. DDL that differs is a matter of the schema. */
function demand(payload: Buffer, offset: number, expected: Buffer): void {
  const found = payload.subarray(offset, offset + expected.length);
  if (found.equals(expected)) return;
  let same = 0;
  while (same < found.length && found[same] === expected[same]) same += 1;
  const inDdl = offset > 0 || same >= PROLOGUE.length;
  throw refused(inDdl ? 'schema' : 'grammar', offset + same, 'not the statement that belongs there');
}

/** As characters of one byte each, so that offsets in it are offsets in the payload. No row is longer than half. */
const WINDOW_BYTES = 4 * MAX_ROW_BYTES;

const QUOTE = 0x27;
const CLOSE = 0x29;
const COMMA = 0x2c;
const TEXT_CAST = "CAST(X'";
const TEXT_CAST_END = "' AS TEXT)";
/** No number of ours is longer: -2.2250738585072014e-308. */
const MAX_NUMBER_LENGTH = 24;

const NONE: readonly number[] = [];

class RowReader {
  readonly #payload: Buffer;
  readonly #end: number;
  /** Whether text needs no look of its own. */
  readonly #isUtf8: boolean;
  #window = '';
  #windowStart: number;
  #isAscii = true;
  /** In the window. */
  #at = 0;
  /** Never changed: a callee may keep it. */
  #textAsBytes: readonly number[] = NONE;

  constructor(payload: Buffer, start: number, end: number) {
    this.#payload = payload;
    this.#end = end;
    this.#isUtf8 = isUtf8(payload);
    this.#windowStart = start;
    this.#fill();
  }

  /** In the payload, of what comes next. */
  get offset(): number {
    return this.#windowStart + this.#at;
  }

  #fill(): void {
    this.#windowStart += this.#at;
    this.#at = 0;
    const stop = Math.min(this.#windowStart + WINDOW_BYTES, this.#end);
    const bytes = this.#payload.subarray(this.#windowStart, stop);
    this.#window = bytes.toString('latin1');
    this.#isAscii = isAscii(bytes);
  }

  readTable(
    table: TableSchema,
    onRow: (values: SQLInputValue[], textAsBytes: readonly number[]) => void,
  ): number {
    const start = rowStart(table.name);
    let rows = 0;
    let previous: readonly KeyValue[] | undefined;
    for (;;) {
      if (this.#at > WINDOW_BYTES - MAX_ROW_BYTES) this.#fill();
      if (!this.#window.startsWith(start, this.#at)) return rows;
      const rowOffset = this.offset;
      this.#at += start.length;
      const values = this.#readValues(table.columns.length);
      if (this.offset - rowOffset > MAX_ROW_BYTES) {
        throw refused('grammar', rowOffset, `a row of more than ${MAX_ROW_BYTES} bytes`);
      }
      const key = table.key.map((index) =>
        keyValue(values[index] as SQLInputValue, this.#textAsBytes.includes(index)),
      );
      if (previous !== undefined && !isBefore(previous, key)) {
        throw refused('rows', rowOffset, `a row of ${table.name} that is out of order or there twice`);
      }
      previous = key;
      onRow(values, this.#textAsBytes);
      rows += 1;
    }
  }

  #fail(message: string): never {
    throw refused('grammar', this.offset, message);
  }

  #readValues(count: number): SQLInputValue[] {
    const values: SQLInputValue[] = [];
    this.#textAsBytes = NONE;
    for (let index = 0; index < count; index += 1) {
      if (index > 0) {
        if (this.#window.charCodeAt(this.#at) !== COMMA) this.#fail('not a comma and a value');
        this.#at += 1;
      }
      values.push(this.#readValue(index));
    }
    if (!this.#window.startsWith(');\n', this.#at)) this.#fail('not the end of the row');
    this.#at += 3;
    return values;
  }

  #readValue(index: number): SQLInputValue {
    switch (this.#window.charCodeAt(this.#at)) {
      case QUOTE:
        return this.#readText();
      case 0x4e:
        return this.#readNull();
      case 0x58:
        return this.#readBlob();
      case 0x43:
        return this.#readTextCast(index);
      default:
        return this.#readNumber();
    }
  }

  #readText(): string {
    const start = this.#at + 1;
    let stop = this.#window.indexOf("'", start);
    let doubled = false;
    while (stop >= 0 && this.#window.charCodeAt(stop + 1) === QUOTE) {
      doubled = true;
      stop += 2;
      // A text of nothing but quotes must not cost a search for each.
      if (this.#window.charCodeAt(stop) !== QUOTE) stop = this.#window.indexOf("'", stop);
    }
    if (stop < 0) this.#fail('a text without end');
    const text = this.#decode(start, stop);
    this.#at = stop + 1;
    // Three times as fast as replaceAll where there are millions.
    return doubled ? text.split("''").join("'") : text;
  }

  #decode(start: number, stop: number): string {
    const text = this.#window.slice(start, stop);
    if (this.#isAscii || !/[\x80-\xff]/.test(text)) return text;
    const bytes = this.#payload.subarray(this.#windowStart + start, this.#windowStart + stop);
    if (!this.#isUtf8 && !isUtf8(bytes)) this.#fail('a text that is not UTF-8');
    return bytes.toString('utf8');
  }

  #readNull(): null {
    if (!this.#window.startsWith('NULL', this.#at)) this.#fail('not a literal');
    this.#at += 4;
    return null;
  }

  #readBlob(): Buffer {
    if (!this.#window.startsWith("X'", this.#at)) this.#fail('not a literal');
    return this.#readHex(this.#at + 2, "'");
  }

  #readTextCast(index: number): string | Buffer {
    const start = this.#at;
    if (!this.#window.startsWith(TEXT_CAST, start)) this.#fail('not a literal');
    const bytes = this.#readHex(start + TEXT_CAST.length, TEXT_CAST_END);
    if (isPlainText(bytes))
      throw refused('grammar', this.#windowStart + start, 'a text that has a plain spelling');
    if (isUtf8(bytes)) return bytes.toString('utf8');
    this.#textAsBytes = [...this.#textAsBytes, index];
    return bytes;
  }

  #readHex(start: number, end: string): Buffer {
    const stop = this.#window.indexOf("'", start);
    if (stop < 0) this.#fail('bytes without end');
    const digits = this.#window.slice(start, stop);
    if (digits.length % 2 !== 0 || !/^[0-9A-F]*$/.test(digits)) this.#fail('not pairs of hex digits');
    if (!this.#window.startsWith(end, stop)) this.#fail('not a literal');
    this.#at = stop + end.length;
    return Buffer.from(digits, 'hex');
  }

  #readNumber(): bigint | number {
    let stop = this.#at;
    const limit = stop + MAX_NUMBER_LENGTH;
    for (; stop <= limit; stop += 1) {
      const code = this.#window.charCodeAt(stop);
      if (code === COMMA || code === CLOSE) break;
    }
    const value = readNumber(this.#window.slice(this.#at, stop));
    if (value === undefined) this.#fail('not a literal, or not in its canonical spelling');
    this.#at = stop;
    return value;
  }
}
