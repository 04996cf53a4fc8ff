/** SQL literals: one spelling for each value, which SQLite reads back as the same value of the same type. */

import { isUtf8 } from 'node:buffer';

/** A value of a column, with text as its bytes: text need not be UTF-8, and may hold NUL. */
export type StoredValue =
  | null
  | bigint
  | number
  | { readonly text: Uint8Array }
  | { readonly blob: Uint8Array };

/** As a dump has it. Text that has no quoted form is spelled as its bytes. */
export function literal(value: StoredValue): Buffer {
  if (value === null) return Buffer.from('NULL');
  if (typeof value === 'bigint') return Buffer.from(value.toString());
  if (typeof value === 'number') return Buffer.from(realLiteral(value));
  if ('blob' in value) return Buffer.from(`X'${hex(value.blob)}'`);
  if (!isPlainText(value.text)) return Buffer.from(`CAST(X'${hex(value.text)}' AS TEXT)`);
  return Buffer.from(`'${Buffer.from(value.text).toString('utf8').replaceAll("'", "''")}'`);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex').toUpperCase();
}

/**
 * Whether a text can stand between quotes: SQL ends at NUL, a dump is UTF-8, and the sqlite3 program takes the CR from
 * a line that ends in CR LF, also within quotes.
 */
export function isPlainText(text: Uint8Array): boolean {
  return !text.includes(0) && !text.includes(0x0d) && isUtf8(text);
}

/**
 * The fewest digits that read back as this number, marked as a real by a point or an exponent. An infinity is a number
 * too large: SQL has no word for it. SQLite stores NaN as NULL.
 */
export function realLiteral(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '9e999';
  if (value === Number.NEGATIVE_INFINITY) return '-9e999';
  if (Object.is(value, -0)) return '-0.0';
  const digits = String(value);
  return /[.e]/.test(digits) ? digits : `${digits}.0`;
}

/** The number a literal spells; undefined when it is not the spelling `literal` gives. */
export function readNumber(token: string): bigint | number | undefined {
  if (/^(?:0|-?[1-9][0-9]{0,18})$/.test(token)) {
    const integer = BigInt(token);
    return BigInt.asIntN(64, integer) === integer ? integer : undefined;
  }
  if (token === '9e999') return Number.POSITIVE_INFINITY;
  if (token === '-9e999') return Number.NEGATIVE_INFINITY;
  if (!/^-?[0-9][0-9.e+-]*$/.test(token)) return undefined;
  const real = Number(token);
  return realLiteral(real) === token ? real : undefined;
}
