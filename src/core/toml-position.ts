/** Where a key stands in a TOML text: the parser forgets it, and a message needs it. */

export interface Position {
  /** From 1. */
  readonly line: number;
  readonly column: number;
}

const KEY = String.raw`(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')`;
const ASSIGNMENT = new RegExp(String.raw`^(\s*)(${KEY}(?:\s*\.\s*${KEY})*)\s*=`);
const MULTI_LINE_STRING = /"""|'''/g;

/**
 * The place of the key at `path`, or of the nearest table or key around it (an inline table, a table that only its
 * members mention); line 1 when there is none. The n-th `[[table]]` is `table`, `n` counted from 0.
 */
export function locateKey(text: string, path: readonly string[]): Position {
  let best: Position = { line: 1, column: 1 };
  let bestDepth = 0;
  for (const { key, position } of keysIn(text)) {
    const depth = commonLength(key, path);
    // A longer key than asked for (`vm_defaults.vcpu` for `vm_defaults`) is inside of it and will do.
    if (depth > bestDepth && (depth === key.length || depth === path.length)) {
      best = position;
      bestDepth = depth;
    }
  }
  return best;
}

interface FoundKey {
  readonly key: readonly string[];
  readonly position: Position;
}

/** Tables and keys in the order of the text. Reads lines: what is inside of a multi-line string is passed over. */
function* keysIn(text: string): Generator<FoundKey> {
  let table: readonly string[] = [];
  const counts = new Map<string, number>();
  let openString: string | undefined;
  for (const [index, line] of text.split('\n').entries()) {
    const wasOpen = openString !== undefined;
    openString = openAfter(line, openString);
    if (wasOpen) continue;
    const column = line.search(/\S/) + 1;
    if (line[column - 1] === '[') {
      table = readHeader(line.slice(column - 1), counts);
      yield { key: table, position: { line: index + 1, column } };
      continue;
    }
    const assignment = ASSIGNMENT.exec(line);
    if (assignment?.[2] === undefined) continue;
    yield { key: [...table, ...splitKey(assignment[2])], position: { line: index + 1, column } };
  }
}

/** The delimiter of the multi-line string that a line leaves open. */
function openAfter(line: string, before: string | undefined): string | undefined {
  let open = before;
  for (const [delimiter] of line.matchAll(MULTI_LINE_STRING)) {
    if (open === undefined) open = delimiter;
    else if (open === delimiter) open = undefined;
  }
  return open;
}

function readHeader(header: string, counts: Map<string, number>): readonly string[] {
  const isList = header.startsWith('[[');
  const name = splitKey(header.slice(isList ? 2 : 1, header.indexOf(']')));
  // A table below one of a list (`[a.b]` behind `[[a]]`) belongs to the last of them.
  const key = name.flatMap((part, index) => {
    const nth = counts.get(JSON.stringify(name.slice(0, index + 1)));
    return nth === undefined || (isList && index === name.length - 1) ? [part] : [part, String(nth)];
  });
  if (!isList) return key;
  const id = JSON.stringify(name);
  const nth = (counts.get(id) ?? -1) + 1;
  counts.set(id, nth);
  return [...key, String(nth)];
}

function commonLength(a: readonly string[], b: readonly string[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
  return length;
}

function splitKey(key: string): readonly string[] {
  const parts = key.match(/"[^"]*"|'[^']*'|[A-Za-z0-9_-]+/g) ?? [];
  return parts.map((part) => part.replace(/^(["'])(.*)\1$/, '$2'));
}
