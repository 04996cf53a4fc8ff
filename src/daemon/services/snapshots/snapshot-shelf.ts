/**
 * The snapshots that there are, for everybody in this daemon at once: names given to those that are being made, and no
 * removal of one that is being used.
 */

import { BangerError } from '../../../core/errors.ts';
import { shortId } from '../../../core/names.ts';
import {
  assertSnapshotName,
  type BrokenVmSnapshot,
  type VmSnapshot,
  type VmSnapshotStore,
} from '../../../frozen/vm-snapshot-store.ts';

/** What is left of a VM's name beside a number, in a name of at most 63 characters. */
const MAX_BASE_LENGTH = 56;

/** A name that nobody else gets until this is disposed of. */
export interface ReservedName extends Disposable {
  readonly name: string;
}

export class SnapshotShelf {
  readonly #store: VmSnapshotStore;
  readonly #reserved = new Set<string>();
  /** How many use a snapshot, by its id. */
  readonly #users = new Map<string, number>();
  readonly #going = new Set<string>();

  constructor(store: VmSnapshotStore) {
    this.#store = store;
  }

  /** By id, name or the beginning of either. @throws {BangerError} `not_found`, `bad_request` (ambiguous), `io_error` (damaged) */
  async get(ref: string): Promise<VmSnapshot> {
    const found = await this.#look(ref);
    if ('manifest' in found) return found;
    throw new BangerError('io_error', `the snapshot ${shortId(found.id)} is damaged: ${found.problem}`, {
      hint: `banger vm snapshot delete ${shortId(found.id)}`,
    });
  }

  /** While `work` runs the snapshot stays. @throws {BangerError} as `get`; what `work` throws */
  async use<T>(ref: string, work: (snapshot: VmSnapshot) => Promise<T>): Promise<T> {
    const { id } = (await this.get(ref)).manifest;
    if (this.#going.has(id)) throw notFound(ref);
    this.#users.set(id, (this.#users.get(id) ?? 0) + 1);
    try {
      // It may have gone between the look and the count.
      const snapshot = await this.#store.find(id);
      if (snapshot === undefined) throw notFound(ref);
      return await work(snapshot);
    } finally {
      const left = (this.#users.get(id) ?? 1) - 1;
      if (left === 0) this.#users.delete(id);
      else this.#users.set(id, left);
    }
  }

  /** A damaged one, too. @throws {BangerError} `not_found`, `bad_request` (ambiguous), `in_use` */
  async remove(ref: string): Promise<{ readonly id: string; readonly name: string; readonly dir: string }> {
    const found = await this.#look(ref);
    const { dir } = found;
    const { id, name } = 'manifest' in found ? found.manifest : { id: found.id, name: shortId(found.id) };
    if (this.#users.has(id)) {
      throw new BangerError('in_use', `the snapshot "${name}" is being used: a VM starts from it`, {
        hint: `banger operation list shows who; then again: banger vm snapshot delete ${name}`,
      });
    }
    if (this.#going.has(id)) throw notFound(ref);
    this.#going.add(id);
    try {
      await this.#store.remove(id);
    } finally {
      this.#going.delete(id);
    }
    return { id, name, dir };
  }

  /** @param name left out: the VM's with a number. @throws {BangerError} `bad_request`, `already_exists` */
  async reserveName(name: string | undefined, vmName: string): Promise<ReservedName> {
    if (name !== undefined) assertSnapshotName(name);
    // One that is published while we look is in here, or in the list.
    const before = [...this.#reserved];
    const { whole } = await this.#store.list();
    const taken = new Set([...before, ...this.#reserved, ...whole.map(({ manifest }) => manifest.name)]);
    if (name !== undefined && taken.has(name)) {
      throw new BangerError('already_exists', `there is a snapshot "${name}"`, {
        hint: `banger vm snapshot delete ${name} frees the name`,
      });
    }
    const given = name ?? firstFree(vmName, taken);
    this.#reserved.add(given);
    return { name: given, [Symbol.dispose]: () => void this.#reserved.delete(given) };
  }

  async #look(ref: string): Promise<VmSnapshot | BrokenVmSnapshot> {
    const { whole, broken } = await this.#store.list();
    const named = [
      ...whole.map((snapshot) => ({ ...snapshot.manifest, snapshot })),
      ...broken.map((snapshot) => ({ id: snapshot.id, name: '', snapshot })),
    ];
    const exact = named.find(({ id }) => id === ref) ?? named.find(({ name }) => name === ref);
    if (exact !== undefined) return exact.snapshot;
    const near = named.filter(({ id, name }) => id.startsWith(ref) || name.startsWith(ref));
    const [only] = near;
    if (only === undefined) throw notFound(ref);
    if (near.length === 1) return only.snapshot;
    const names = near.map(({ id, name }) => name || shortId(id)).join(' or ');
    throw new BangerError('bad_request', `"${ref}" could be ${names}`, { hint: 'write more of it' });
  }
}

function firstFree(vmName: string, taken: ReadonlySet<string>): string {
  for (let number = 1; ; number++) {
    const name = `${vmName.slice(0, MAX_BASE_LENGTH)}-${number}`;
    if (!taken.has(name)) return name;
  }
}

function notFound(ref: string): BangerError {
  return new BangerError('not_found', `no snapshot "${ref}"`, { hint: 'banger vm snapshot list shows all' });
}
