/** One value of a row against another, as a person wants to read it: JSON by its fields, long texts where they differ. */

import type { SQLInputValue } from 'node:sqlite';
import { realLiteral } from './literal.ts';
import { visible } from './visible.ts';

/** A value of the database that compares and travels as text. */
export interface Cell {
  /** `bytes` that stand for text: one that is not UTF-8. */
  readonly kind: 'null' | 'integer' | 'real' | 'text' | 'blob' | 'bytes';
  readonly text: string;
}

export interface ColumnChange {
  /** `spec_json.vcpus`: a field of a JSON object. */
  readonly column: string;
  /** Printable, at most MAX_SHOWN characters. */
  readonly from: string;
  readonly to: string;
}

const MAX_SHOWN = 200;
/** What is shown before the first difference of two long values. */
const CONTEXT = 40;
const MAX_JSON_DEPTH = 32;
const CUT = '…';
/** The column or the field is not there. */
const ABSENT = '(none)';

export function cellOf(value: SQLInputValue, isText: boolean): Cell {
  if (value === null) return { kind: 'null', text: 'NULL' };
  if (typeof value === 'bigint') return { kind: 'integer', text: String(value) };
  if (typeof value === 'number') return { kind: 'real', text: realLiteral(value) };
  if (typeof value === 'string') return { kind: 'text', text: value };
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return { kind: isText ? 'bytes' : 'blob', text: `X'${bytes.toString('hex').toUpperCase()}'` };
}

/** None when they are equal; one for each field that differs where both are JSON objects, else one. */
export function diffCells(
  column: string,
  before: Cell | undefined,
  after: Cell | undefined,
): readonly ColumnChange[] {
  if (before?.kind === after?.kind && before?.text === after?.text) return [];
  if (before?.kind === 'text' && after?.kind === 'text') {
    const fields = diffJson(column, before.text, after.text);
    if (fields.length > 0) return fields;
    return [changeOf(column, before.text, after.text)];
  }
  // A text that looks like something else must not look equal to it.
  return [changeOf(column, literalOf(before), literalOf(after))];
}

function literalOf(cell: Cell | undefined): string {
  if (cell === undefined) return ABSENT;
  return cell.kind === 'text' ? `'${cell.text}'` : cell.text;
}

/** None too when they say the same in other words, or are too deep to compare. */
function diffJson(column: string, before: string, after: string): readonly ColumnChange[] {
  const from = parseObject(before);
  const to = parseObject(after);
  if (from === undefined || to === undefined) return [];
  try {
    return diffObjects(column, from, to, 0);
  } catch (error) {
    if (error instanceof RangeError) return [];
    throw error;
  }
}

type JsonObject = Readonly<Record<string, unknown>>;

function parseObject(text: string): JsonObject | undefined {
  if (!text.startsWith('{')) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function diffObjects(path: string, from: JsonObject, to: JsonObject, depth: number): readonly ColumnChange[] {
  return [...new Set([...Object.keys(to), ...Object.keys(from)])].flatMap((key) => {
    const before = Object.hasOwn(from, key) ? from[key] : undefined;
    const after = Object.hasOwn(to, key) ? to[key] : undefined;
    const field = `${path}.${key}`;
    if (isObject(before) && isObject(after) && depth < MAX_JSON_DEPTH) {
      return diffObjects(field, before, after, depth + 1);
    }
    const [first, second] = [jsonText(before), jsonText(after)];
    return first === second ? [] : [changeOf(field, first, second)];
  });
}

function jsonText(value: unknown): string {
  return value === undefined ? ABSENT : JSON.stringify(value);
}

function changeOf(column: string, from: string, to: string): ColumnChange {
  const start = from.length > MAX_SHOWN || to.length > MAX_SHOWN ? firstDifference(from, to) - CONTEXT : 0;
  return { column: shown(column, 0), from: shown(from, start), to: shown(to, start) };
}

function firstDifference(one: string, other: string): number {
  let index = 0;
  while (index < one.length && one[index] === other[index]) index += 1;
  return index;
}

/** Cut at both ends, and without what a terminal would obey. */
function shown(text: string, start: number): string {
  const begin = Math.max(0, start);
  const head = begin === 0 ? '' : CUT;
  // Before it is cut, a character may become longer; after it, one may be half of a pair.
  const part = visible(text.slice(begin, begin + MAX_SHOWN + 1));
  if (head.length + part.length <= MAX_SHOWN) return head + part;
  return `${head}${part.slice(0, MAX_SHOWN - head.length - CUT.length)}${CUT}`;
}
