/** New rows: a name, an id and an address that nobody else has. Races are decided by the store's unique constraints. */

import { BangerError } from '../../../core/errors.ts';
import type { VmRecord, VmSpec } from '../../../core/model/vm.ts';
import type { VmWorkspace } from '../../../core/model/workspace.ts';
import { randomName } from '../../../core/namegen/namegen.ts';
import { assertVmName } from '../../../core/names.ts';
import { now } from '../../../host/clock.ts';
import { newId } from '../../../host/ids.ts';
import type { Store } from '../../../store/store.ts';
import type { NewVm } from '../../../store/vms.ts';
import { GUEST_PREFIX } from '../guests/guest-network.ts';
import type { LocalImage } from '../images/image-service.ts';

const RANDOM_NAME_TRIES = 20;

export class VmReservations {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** @throws {BangerError} `bad_request`, `already_exists` */
  assertFree(name: string): void {
    assertVmName(name);
    if (this.#store.getVmByName(name) === undefined) return;
    throw new BangerError('already_exists', `VM name "${name}" is taken`, {
      hint: `banger vm show ${name} shows it; banger vm delete ${name} frees the name`,
    });
  }

  /** `base-1`, `base-2` … with the lowest numbers that are free. @throws {BangerError} `bad_request`: it gets too long */
  numbered(base: string, count: number): readonly string[] {
    const names: string[] = [];
    for (let number = 1; names.length < count; number++) {
      const name = `${base}-${number}`;
      assertVmName(name);
      if (this.#store.getVmByName(name) === undefined) names.push(name);
    }
    return names;
  }

  /**
   * The row of a VM that is being created.
   * @param name left out: one is made up
   * @param id of a machine that waits for it already
   * @throws {BangerError} `already_exists`, `limit_exceeded` (no address is free)
   */
  reserve(
    name: string | undefined,
    spec: VmSpec,
    image: LocalImage,
    workspace: VmWorkspace | null,
    id: string = newId(),
  ): VmRecord {
    for (let tries = 1; ; tries++) {
      try {
        const at = now();
        const vm: NewVm = {
          id,
          name: name ?? randomName(Math.random),
          imageId: image.record.id,
          state: 'created',
          spec,
          runtime: { pending: 'create' },
          stats: {},
          workspace,
          createdAt: at,
          updatedAt: at,
          lastTouchedAt: at,
        };
        return this.#store.insertVm(vm, GUEST_PREFIX);
      } catch (error) {
        const taken = error instanceof BangerError && error.code === 'already_exists';
        if (!taken || name !== undefined || tries === RANDOM_NAME_TRIES) throw error;
      }
    }
  }
}
