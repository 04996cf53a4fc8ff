/** The host's wall clock. */

/** Now, as RFC 3339 in UTC with milliseconds: `2026-01-31T12:00:00.000Z`. Sorts as text. */
export function now(): string {
  return new Date().toISOString();
}
