/** Plain tables: columns aligned, two spaces between them, nothing after the last. */

export type Row = readonly string[];

/** Lines with a line feed each; the header first. Control characters of a cell are shown as `?`: names come from guests too. */
export function formatTable(header: Row, rows: readonly Row[]): string {
  const lines = [header, ...rows].map((row) => row.map(printable));
  const widths = header.map((_, column) => Math.max(...lines.map((row) => widthOf(row[column] ?? ''))));
  return lines.map((row) => `${formatLine(row, widths)}\n`).join('');
}

/** `key  value` lines, keys aligned. */
export function formatPairs(pairs: readonly (readonly [key: string, value: string])[]): string {
  const width = Math.max(0, ...pairs.map(([key]) => key.length));
  return pairs.map(([key, value]) => `${key.padEnd(width)}  ${printable(value)}`.trimEnd() + '\n').join('');
}

function formatLine(row: Row, widths: readonly number[]): string {
  return row
    .map((cell, column) => cell + ' '.repeat(Math.max(0, (widths[column] ?? 0) - widthOf(cell))))
    .join('  ')
    .trimEnd();
}

/** Characters, not UTF-16 units: paths may hold any of them. */
function widthOf(text: string): number {
  return [...text].length;
}

export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?');
}
