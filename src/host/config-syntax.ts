/** What to do about a text that is not TOML. */

import type { Position } from '../core/toml-position.ts';

/** What the parser says, and what people have usually done. A test holds the words together with the parser's. */
const HINTS: readonly (readonly [RegExp, string])[] = [
  [
    /^(invalid value|illegal leading zero|illegal character in numeric literal)$/,
    'a text stands in quotes: accel = "tcg"; other values are numbers, true, false',
  ],
  [
    /^(illegal character in key|incomplete key-value)/,
    'a line is a key with a value, log_level = "info", or a [table]',
  ],
  [
    /^control characters are not allowed in strings$/,
    'a text ends on its line, with the quote it began with',
  ],
  [/^unfinished string$/, 'a text ends with the quote it began with'],
  [/^trying to redefine/, 'it is there already further up: a key and a [table] stand once in a file'],
  [/^each key-value declaration must be followed by/, 'one key with its value on a line'],
];

const OTHERWISE = 'what follows is checked once this is TOML: https://toml.io';

/** `message` is the parser's. */
export function syntaxHint(message: string): string {
  return HINTS.find(([pattern]) => pattern.test(message))?.[1] ?? OTHERWISE;
}

/** Which decoding leaves where bytes were no UTF-8. */
const REPLACEMENT = '\uFFFD';

/** Where the text was not UTF-8, if that is before `end`; undefined: nowhere. */
export function notUtf8(
  text: string,
  end?: Position,
): (Position & { readonly message: string; readonly hint: string }) | undefined {
  const at = text.indexOf(REPLACEMENT);
  if (at < 0) return undefined;
  const lines = text.slice(0, at).split('\n');
  const [line, column] = [lines.length, (lines.at(-1)?.length ?? 0) + 1];
  if (end !== undefined && (end.line < line || (end.line === line && end.column < column))) return undefined;
  return { line, column, message: 'is not UTF-8 here', hint: 'save the file as text in UTF-8' };
}
