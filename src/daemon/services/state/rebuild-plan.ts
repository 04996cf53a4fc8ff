/** Which rows a rebuild adds to those that are there. Pure: the same directories and rows give the same plan. */

import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import type { StateRebuilt } from '../../../api/results/state.ts';
import { BangerError } from '../../../core/errors.ts';
import type { ImageRecord } from '../../../core/model/image.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import { MAX_NAME_LENGTH } from '../../../core/names.ts';
import { isGuestIp, nextGuestIp } from '../../../store/addresses.ts';
import { imageRecord } from '../images/image-record.ts';
import type { FoundImage, FoundVm, RebuildSources, Skipped } from './rebuild-sources.ts';

export interface RebuildPlan {
  readonly images: readonly ImageRecord[];
  readonly vms: readonly VmRecord[];
  /** The same, as users are told of them. */
  readonly added: StateRebuilt['added'];
  readonly skipped: readonly Skipped[];
}

export interface ExistingRows {
  readonly images: readonly ImageRecord[];
  readonly vms: readonly VmRecord[];
}

/** Rows that are there win. `prefix`: three octets, for a VM whose address is taken. */
export function planRebuild(found: RebuildSources, existing: ExistingRows, prefix: string): RebuildPlan {
  const names = new Set(existing.images.map(({ name }) => name));
  const newImages = found.images.filter(({ manifest }) => !names.has(manifest.name)).map(toRecord);
  const images = new Map([...existing.images, ...newImages].map((image) => [image.name, image]));
  const digests = new Map(found.images.map(({ dir, manifest }) => [dir, manifest.rootfs.sha256]));
  const taken = new Taken(existing.vms, prefix);
  const known = new Set(existing.vms.map(({ id }) => id));
  const vms: VmRecord[] = [];
  const skipped: Skipped[] = [...found.skipped];
  const added: StateRebuilt['added'][number][] = newImages.map(({ id, name }) => ({
    kind: 'image',
    name,
    id,
    note: null,
  }));
  for (const vm of found.vms.filter(({ record }) => !known.has(record.id))) {
    const image = images.get(vm.record.image.name);
    const why = imageProblem(vm, image, digests.get(image?.artifactDir ?? ''));
    const place = why === undefined && image !== undefined ? taken.find(vm) : undefined;
    if (image === undefined || place === undefined) {
      skipped.push({
        path: vm.dir,
        why: why ?? `no guest address is left for it: delete VMs, and rebuild again`,
      });
      continue;
    }
    vms.push(rowOf(vm, image, place));
    added.push({ kind: 'vm', name: place.name, id: vm.record.id, note: place.note });
  }
  // Directories of VMs that have rows are not lost, whatever lies in them.
  const lost = skipped.filter(({ path }) => !known.has(basename(path)));
  return { images: newImages, vms, added, skipped: lost };
}

/** The same image gets the same id again. */
function toRecord({ dir, manifest, kernel }: FoundImage): ImageRecord {
  const identity = `image ${manifest.name} ${manifest.rootfs.sha256}`;
  const id = createHash('sha256').update(identity).digest('hex').slice(0, 32);
  const { builtAt } = manifest;
  return imageRecord({ id, dir, manifest, kernel, createdAt: builtAt, updatedAt: builtAt });
}

/** A disk is a layer over one build of an image: over another one, starting it would damage it. */
function imageProblem(
  { record, hasDisk }: FoundVm,
  image: ImageRecord | undefined,
  digest: string | undefined,
): string | undefined {
  const { name, sha256 } = record.image;
  if (image === undefined) {
    const way =
      sha256 === null || !hasDisk
        ? `banger image build ${name}`
        : `put the image with digest ${sha256} there`;
    return `its image "${name}" is not here: ${way}, and rebuild again`;
  }
  if (!hasDisk || sha256 === null || digest === undefined || sha256 === digest) return undefined;
  return (
    `its disk stands on another build of image "${name}" (${sha256}) than the one that is here (${digest}): ` +
    'put that one there, and rebuild again'
  );
}

interface Place {
  readonly name: string;
  readonly guestIp: string;
  readonly note: string | null;
}

/** Names and addresses that rows have. */
class Taken {
  readonly #names: Set<string>;
  readonly #addresses: Set<string>;
  readonly #prefix: string;

  constructor(rows: readonly VmRecord[], prefix: string) {
    this.#names = new Set(rows.map(({ name }) => name));
    this.#addresses = new Set(rows.map(({ guestIp }) => guestIp));
    this.#prefix = prefix;
  }

  /** A name and an address for a VM, its own where they are free; undefined when no address is left. */
  find({ record }: FoundVm): Place | undefined {
    const guestIp = this.#address(record.guestIp);
    if (guestIp === undefined) return undefined;
    const name = this.#name(record.name);
    this.#names.add(name);
    this.#addresses.add(guestIp);
    const notes = [
      ...(name === record.name ? [] : [`the name "${record.name}" is taken`]),
      ...(guestIp === record.guestIp
        ? []
        : [
            `the address ${record.guestIp} is ${isGuestIp(record.guestIp) ? 'taken' : 'no guest’s'}; it has ${guestIp} now`,
          ]),
    ];
    return { name, guestIp, note: notes.length === 0 ? null : notes.join('; ') };
  }

  #name(wanted: string): string {
    for (let number = 1; ; number += 1) {
      const suffix = number === 1 ? '' : `-${number}`;
      const name = wanted.slice(0, MAX_NAME_LENGTH - suffix.length).replace(/-+$/, '') + suffix;
      if (!this.#names.has(name)) return name;
    }
  }

  #address(wanted: string): string | undefined {
    if (isGuestIp(wanted) && !this.#addresses.has(wanted)) return wanted;
    try {
      return nextGuestIp(this.#prefix, this.#addresses);
    } catch (error) {
      if (error instanceof BangerError && error.code === 'limit_exceeded') return undefined;
      throw error;
    }
  }
}

/** One whose VMM runs is found by the next daemon: vm-reconcile.ts. */
function rowOf({ record, hasDisk }: FoundVm, image: ImageRecord, { name, guestIp }: Place): VmRecord {
  const { id, spec, workspace, createdAt, updatedAt } = record;
  return {
    id,
    name,
    imageId: image.id,
    guestIp,
    state: hasDisk ? 'stopped' : 'created',
    spec,
    runtime: {},
    stats: {},
    workspace,
    createdAt,
    updatedAt,
    lastTouchedAt: updatedAt,
  };
}
