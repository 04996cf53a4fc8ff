/** Where things stand in a TOML text: the parser that reads values forgets it, and a message needs it. */

import { type AST, ParseError, parseTOML } from 'toml-eslint-parser';

export interface Position {
  /** From 1. */
  readonly line: number;
  /** From 1, in UTF-16 units, as editors count. */
  readonly column: number;
}

/** Names of keys; a number is a place in an array, from 0. */
export type TomlPath = readonly (string | number)[];

interface Place {
  readonly position: Position;
  readonly inner: Map<string | number, Place>;
}

const START: Position = { line: 1, column: 1 };

/**
 * Finds the key at a path, or the element of an array, which has none: the value; of a `[[table]]` the name in its
 * header. What is not there is where the nearest thing around it is, and else at the start. A text that is not TOML has
 * nothing but its start. The text is read at the first question.
 */
export function tomlPositions(text: string): (path: TomlPath) => Position {
  let root: Place | undefined;
  return (path) => {
    root ??= placesIn(text);
    let place = root;
    for (const part of path) {
      const next = place.inner.get(part);
      if (next === undefined) break;
      place = next;
    }
    return place.position;
  };
}

function placesIn(text: string): Place {
  const root: Place = { position: START, inner: new Map() };
  const program = parsed(text);
  for (const node of program?.body[0].body ?? []) {
    if (node.type === 'TOMLKeyValue') addAssignment(root, node);
    else addTable(root, node);
  }
  return root;
}

function parsed(text: string): AST.TOMLProgram | undefined {
  try {
    return parseTOML(withoutMark(text), { tomlVersion: '1.1' });
  } catch (error) {
    // Texts of more than 100,000 characters in one value overflow this parser's stack.
    if (error instanceof ParseError || error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Without the byte order mark, which TOML allows and no editor counts as a column. */
export function withoutMark(text: string): string {
  return text.startsWith('\uFEFF') ? text.slice(1) : text;
}

function addTable(root: Place, { key, resolvedKey, body }: AST.TOMLTable): void {
  let place = root;
  let names = 0;
  for (const part of resolvedKey) {
    // A number belongs to the name before it.
    if (typeof part === 'string') names += 1;
    place = innerPlace(place, part, key.keys[names - 1] ?? key);
  }
  for (const node of body) addAssignment(place, node);
}

function addAssignment(table: Place, { key, value }: AST.TOMLKeyValue): void {
  let place = table;
  for (const part of key.keys) {
    place = innerPlace(place, part.type === 'TOMLBare' ? part.name : part.value, part);
  }
  addValue(place, value);
}

/** The parser that reads values allows 1000 levels, which this does without trouble. */
function addValue(place: Place, value: AST.TOMLContentNode): void {
  if (value.type === 'TOMLInlineTable') for (const node of value.body) addAssignment(place, node);
  if (value.type !== 'TOMLArray') return;
  for (const [index, element] of value.elements.entries())
    addValue(innerPlace(place, index, element), element);
}

/** A table may be mentioned several times: the first one counts. */
function innerPlace(around: Place, part: string | number, { loc }: AST.HasLocs): Place {
  let place = around.inner.get(part);
  if (place === undefined) {
    const { line, column } = loc.start;
    place = { position: { line, column: column + 1 }, inner: new Map() };
    around.inner.set(part, place);
  }
  return place;
}
