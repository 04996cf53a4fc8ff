/** Which VM the user means: a full id, an exact name, or the beginning of one id or name. */

import { BangerError } from './errors.ts';
import { shortId } from './names.ts';
import { nearNames } from './near-names.ts';

export interface Referable {
  readonly id: string;
  readonly name: string;
}

const MAX_LISTED = 5;

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
  const near = nearNames(
    reference,
    vms.map((vm) => vm.name),
  );
  const hint = near.length === 0 ? 'banger vm list shows all' : `did you mean ${near.join(', ')}?`;
  return new BangerError('not_found', `no VM "${printable(reference)}"`, { hint });
}

/** What the user typed comes back in a message: without what steers a terminal, and not at any length. */
function printable(reference: string): string {
  return reference.slice(0, 80).replace(/[^\x20-\x7e]/g, '?');
}
