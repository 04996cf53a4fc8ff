/** JSON with one spelling for each value: sorted keys, no spaces, no exponents in integers, no key twice. */

/** Integers beyond 2^53 are bigints, all others numbers. */
export type CanonicalValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly CanonicalValue[]
  | { readonly [key: string]: CanonicalValue };

/** Keys in order of their UTF-16 code units, as Array.prototype.sort has them. */
export function canonicalJson(value: CanonicalValue): string {
  if (typeof value === 'bigint') return value.toString();
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const members = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key] as CanonicalValue)}`);
  return `{${members.join(',')}}`;
}

function isArray(value: object): value is readonly CanonicalValue[] {
  return Array.isArray(value);
}

/** JSON.parse gives a reviver the text a number had: https://tc39.es/proposal-json-parse-with-source/ */
type SourceReviver = (this: unknown, key: string, value: unknown, context: { source?: string }) => unknown;

const keepLargeIntegers: SourceReviver = (_key, value, context) => {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value;
  return /^-?[0-9]+$/.test(context.source ?? '') ? BigInt(context.source ?? '') : value;
};

/**
 * The value of a text that is the canonical spelling of it. Writing it again and comparing refuses, in one step, keys
 * that are there twice, spaces, another order, other spellings of a number or a character.
 * @throws {SyntaxError} not JSON, or not canonical
 */
export function parseCanonicalJson(bytes: Uint8Array): CanonicalValue {
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  // The standard library's types do not know the third argument yet.
  const value = JSON.parse(
    text,
    keepLargeIntegers as (key: string, value: unknown) => unknown,
  ) as CanonicalValue;
  if (canonicalJson(value) !== text) throw new SyntaxError('not in canonical form');
  return value;
}
