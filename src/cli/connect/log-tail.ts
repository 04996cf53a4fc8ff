/** The last words of a daemon that did not start. */

import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { printable } from '../../core/channel/close.ts';

const MAX_TAIL_BYTES = 16 * 1024;
const MAX_LINES = 10;
const MAX_LINE_CHARACTERS = 300;

/** Bytes in the log now; 0 when there is none. */
export function logSize(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** The last lines written after `fromByte`, at most 10, for a person. Empty when there are none or the log cannot be read. */
export function logTail(path: string, fromByte: number): readonly string[] {
  try {
    const size = logSize(path);
    // A log that was emptied since then is read from its beginning.
    const begin = Math.max(size < fromByte ? 0 : fromByte, size - MAX_TAIL_BYTES);
    const buffer = Buffer.alloc(size - begin);
    const descriptor = openSync(path, 'r');
    try {
      const count = readSync(descriptor, buffer, 0, buffer.length, begin);
      return buffer.toString('utf8', 0, count).split('\n').filter(Boolean).slice(-MAX_LINES).map(shownLine);
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return [];
  }
}

/** A line of the structured log is shown as its message. */
function shownLine(line: string): string {
  let text = line;
  try {
    const fields = JSON.parse(line) as { readonly level?: unknown; readonly msg?: unknown } | null;
    if (typeof fields?.msg === 'string') {
      text = typeof fields.level === 'string' ? `${fields.level}: ${fields.msg}` : fields.msg;
    }
  } catch {
    // Not JSON: what the runtime or bangerd itself wrote to stderr.
  }
  return printable(text).slice(0, MAX_LINE_CHARACTERS);
}
