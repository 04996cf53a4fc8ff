/** SNAPSHOT as a person writes it, and as a request names it. */

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { CliContext } from './cli-context.ts';
import { type ArgumentSpec, oneArgument, optionalArgument } from './command.ts';
import { completeSnapshots } from './complete-names.ts';

const BRIEF = 'Digest, ref or path of a snapshot';

export function oneSnapshot(brief = BRIEF): ArgumentSpec {
  return { ...oneArgument('SNAPSHOT', brief, completeSnapshots), isPath: true };
}

export function optionalSnapshot(brief: string): ArgumentSpec {
  return { ...optionalArgument('SNAPSHOT', brief, completeSnapshots), isPath: true };
}

/** A digest or a ref as it is; a path made absolute: it has a slash, or there is such a file here. */
export function snapshotSource(context: Pick<CliContext, 'cwd'>, text: string): string {
  const path = resolve(context.cwd, text);
  return text.includes('/') || isFile(path) ? path : text;
}

function isFile(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
  } catch {
    return false;
  }
}
