/** Foreign text in messages and lists. */

/** The same text without what a terminal would obey or not show: `\u{1b}` instead of the character. */
export function visible(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, escaped);
}

function escaped(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
