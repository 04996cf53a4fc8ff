/** Foreign text in messages. */

const MAX_QUOTED = 100;

/** In quotes, with control characters escaped, and cut. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text);
}
