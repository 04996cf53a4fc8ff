/** Which VM the user means: a full id, an exact name, or the beginning of one id or name. */

import { BangerError } from './errors.ts';
import { shortId } from './names.ts';

export interface Referable {
  readonly id: string;
  readonly name: string;
}

const MAX_LISTED = 5;
/** A name this many edits away is worth a hint. */
const MAX_DISTANCE = 2;

/**
 * An exact id or name wins over every prefix.
 * @throws {BangerError} `not_found` (with near names as hint), `bad_request` (ambiguous, listing the candidates)
 */
export function resolveReference<T extends Referable>(reference: string, vms: readonly T[]): T {
  const exact =
    vms.find((vm) => vm.id === reference) ?? vms.find((vm) => vm.name === reference && vm.name !== '');
  if (exact !== undefined) return exact;
  const candidates =
    reference === '' ? [] : vms.filter((vm) => vm.id.startsWith(reference) || vm.name.startsWith(reference));
  const [only] = candidates;
  if (only === undefined) throw notFound(reference, vms);
  if (candidates.length === 1) return only;
  throw new BangerError('bad_request', `"${printable(reference)}" could be ${list(candidates)}`, {
    hint: 'write more of the name or the id',
  });
}

function list(vms: readonly Referable[]): string {
  const shown = vms.slice(0, MAX_LISTED).map((vm) => `${vm.name} (${shortId(vm.id)})`);
  const left = vms.length - shown.length;
  if (left > 0) return `${shown.join(', ')} or ${left} more`;
  return [shown.slice(0, -1).join(', '), shown.at(-1)].join(' or ');
}

function notFound(reference: string, vms: readonly Referable[]): BangerError {
  const near = vms
    .map((vm) => vm.name)
    .filter((name) => editDistance(name, reference) <= MAX_DISTANCE || isInside(reference, name))
    .slice(0, MAX_LISTED);
  const hint = near.length === 0 ? 'banger vm list shows all' : `did you mean ${near.join(', ')}?`;
  return new BangerError('not_found', `no VM "${printable(reference)}"`, { hint });
}

function isInside(reference: string, name: string): boolean {
  return reference.length >= 3 && name.includes(reference);
}

/** Levenshtein's, but anything far apart in length is simply far. */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > MAX_DISTANCE) return MAX_DISTANCE + 1;
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitute = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitute, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}

/** What the user typed comes back in a message: without what steers a terminal, and not at any length. */
function printable(reference: string): string {
  return reference.slice(0, 80).replace(/[^\x20-\x7e]/g, '?');
}
