/**
 * The lines of ours in the user's ~/.ssh/config. Whatever else is in it, in whatever encoding, stays as it is: texts here have one
 * character per byte (latin1).
 */

import { decodeUtf8, encodeUtf8 } from '../channel/utf8.ts';
import { BangerError } from '../errors.ts';
import { includeWord } from './client-config.ts';

const BEGIN = '# >>> banger: ssh NAME.vm; "banger ssh-config --uninstall" removes these three lines';
/** In a file that was not there before. */
const BEGIN_OF_OWN_FILE = `${BEGIN}, and this file if nothing else is in it`;
const END = '# <<< banger';
const FENCE = /^# (?:>>>|<<<) banger\b/;

export interface IncludeBlock {
  /** The file it includes. */
  readonly path: string;
  /** Nothing was there before the block. */
  readonly madeFile: boolean;
  readonly start: number;
  readonly end: number;
}

/**
 * At the top: after a Host line an Include would hold for that host only.
 * @throws {BangerError} `bad_request`: the path cannot be included
 */
export function withBlock(config: string | null, path: string): string {
  const begin = config === null ? BEGIN_OF_OWN_FILE : BEGIN;
  return `${begin}\nInclude ${asBytes(includeWord(path))}\n${END}\n${config ?? ''}`;
}

/** The text without the block; null: without the file. */
export function withoutBlock(config: string, block: IncludeBlock): string | null {
  const rest = config.slice(0, block.start) + config.slice(block.end);
  return rest === '' && block.madeFile ? null : rest;
}

/**
 * Where the block is, if there is one: our three lines, with whatever ends of lines an editor gave them.
 * @throws {BangerError} `bad_request`: what is there was changed by somebody and is not ours to remove
 */
export function findBlock(config: string): IncludeBlock | undefined {
  const lines = linesOf(config);
  const fences = lines.filter(({ text }) => FENCE.test(text));
  if (fences.length === 0) return undefined;
  const at = lines.indexOf(fences[0] as Line);
  const [begin, include, end] = lines.slice(at, at + 3);
  const path = /^Include "([^"]+)"$/.exec(include?.text ?? '')?.[1];
  const isWhole = begin !== undefined && isBegin(begin.text) && path !== undefined && end?.text === END;
  if (fences.length !== 2 || !isWhole) throw changed();
  return {
    path: fromBytes(path),
    madeFile: begin.text === BEGIN_OF_OWN_FILE,
    start: begin.start,
    end: end.end,
  };
}

interface Line {
  /** Without its end. */
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

function linesOf(config: string): readonly Line[] {
  return [...config.matchAll(/[^\n]*\n|[^\n]+$/g)].map(({ 0: line, index }) => ({
    text: line.replace(/\r?\n$/, ''),
    start: index,
    end: index + line.length,
  }));
}

function isBegin(text: string): boolean {
  return text === BEGIN || text === BEGIN_OF_OWN_FILE;
}

function changed(): BangerError {
  return new BangerError('bad_request', 'the lines that banger wrote have been changed', {
    hint: 'remove them, and the lines "# >>> banger" and "# <<< banger" around them, with an editor',
  });
}

function asBytes(text: string): string {
  return String.fromCharCode(...encodeUtf8(text));
}

function fromBytes(bytes: string): string {
  return decodeUtf8(Uint8Array.from(bytes, (char) => char.charCodeAt(0)));
}
