/** What a program wrote last before it ended, from its log. */

import { open } from 'node:fs/promises';

const MAX_BYTES = 4096;
const MAX_LINES = 6;

/**
 * The last lines written at or after `fromByte`, printable characters only; empty when there are none or no such file.
 * Meant for messages: at most 6 lines of at most 4 KiB together.
 */
export async function lastWords(path: string, fromByte = 0): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    // A log that was emptied since is shorter than where we began.
    const begin = size < fromByte ? 0 : fromByte;
    const start = Math.max(begin, size - MAX_BYTES);
    const buffer = Buffer.alloc(Math.min(MAX_BYTES, size - start));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
    return printableLines(buffer.toString('utf8', 0, bytesRead))
      .slice(-MAX_LINES)
      .join('\n');
  } catch {
    return '';
  }
}

function printableLines(text: string): readonly string[] {
  return text
    .split(/[\r\n]+/)
    .map((line) => line.replace(/\p{C}/gu, '').trimEnd())
    .filter((line) => line !== '');
}
