/** What an unknown key of config.toml was likely meant to be. */

import { nearNames } from '../core/near-names.ts';
import { keysOf, type LeafKey, leafKeys } from './config-keys.ts';
import { originalKeyHint } from './config-original.ts';

/**
 * For `key` of the table at `path`: what holds instead, where such a key belongs, which is nearly that, or all there
 * are.
 */
export function unknownKeyHint(path: readonly string[], key: string): string {
  const known = keysOf(path);
  const near = nearNames(key, known);
  return (
    originalKeyHint([...path, key].join('.')) ??
    belongsElsewhere(key) ??
    (near.length > 0 ? `did you mean ${near.join(' or ')}?` : undefined) ??
    nearElsewhere(key) ??
    `allowed: ${known.join(', ')}`
  );
}

/** A key behind the wrong header, which in TOML is easily done. */
function belongsElsewhere(key: string): string | undefined {
  const { path } = onlyLeaf((name) => name === key) ?? {};
  if (path === undefined) return undefined;
  return path.length === 1
    ? `${key} belongs before the first [table]`
    : `${key} belongs in [${tableOf(path)}]`;
}

function nearElsewhere(key: string): string | undefined {
  const { path } = onlyLeaf((name) => nearNames(key, [name]).length > 0) ?? {};
  if (path === undefined) return undefined;
  const where = path.length === 1 ? 'before the first [table]' : `in [${tableOf(path)}]`;
  return `did you mean ${path.at(-1)} ${where}?`;
}

function onlyLeaf(isMeant: (name: string) => boolean): LeafKey | undefined {
  const leaves = leafKeys().filter(({ path }) => isMeant(path.at(-1) ?? ''));
  return leaves.length === 1 ? leaves[0] : undefined;
}

function tableOf(path: readonly string[]): string {
  return path.slice(0, -1).join('.');
}
