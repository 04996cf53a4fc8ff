/** Where a key stands in a TOML text: the parser forgets it, and a message needs it. */

export interface Position {
  /** From 1. */
  readonly line: number;
  readonly column: number;
}

const HEADER = /^\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}/;
const ASSIGNMENT =
  /^(\s*)((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=/;

/**
 * The place of the key at `path`, or of the nearest table or key around it (an inline table, a table that only its
 * members mention); line 1 when there is none. Reads lines, so a multi-line string that looks like TOML can mislead it.
 */
export function locateKey(text: string, path: readonly string[]): Position {
  let table: readonly string[] = [];
  let best: Position = { line: 1, column: 1 };
  let bestDepth = 0;
  const consider = (found: readonly string[], position: Position): void => {
    const depth = commonLength(found, path);
    // A longer key than asked for (`vm_defaults.vcpu` for `vm_defaults`) is inside of it and will do.
    if (depth > bestDepth && (depth === found.length || depth === path.length)) {
      best = position;
      bestDepth = depth;
    }
  };
  for (const [index, line] of text.split('\n').entries()) {
    const header = HEADER.exec(line);
    if (header?.[1] !== undefined) {
      table = splitKey(header[1]);
      consider(table, { line: index + 1, column: line.indexOf('[') + 1 });
      continue;
    }
    const assignment = ASSIGNMENT.exec(line);
    if (assignment?.[2] === undefined) continue;
    consider([...table, ...splitKey(assignment[2])], {
      line: index + 1,
      column: (assignment[1]?.length ?? 0) + 1,
    });
  }
  return best;
}

function commonLength(a: readonly string[], b: readonly string[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
  return length;
}

function splitKey(key: string): readonly string[] {
  const parts = key.match(/"[^"]*"|'[^']*'|[A-Za-z0-9_-]+/g) ?? [];
  return parts.map((part) => part.replace(/^["'](.*)["']$/, '$1'));
}
