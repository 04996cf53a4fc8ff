/** What a snapshot needs to be used: its own files as they were written, the image under its disk, a machine like its own. */

import { BangerError, errorText } from '../../../core/errors.ts';
import { shortId } from '../../../core/names.ts';
import { type FrozenMachine, frozenPaths, isWholeState } from '../../../frozen/manifest.ts';
import { frozenSnapshot, type VmSnapshot } from '../../../frozen/vm-snapshot-store.ts';
import type { Platform } from '../../../vmm/driver.ts';
import { shapeDifferences } from '../../../vmm/shape.ts';
import type { OperationHandle } from '../../operations.ts';
import type { ImageService, LocalImage } from '../images/image-service.ts';
import type { FileVerifier } from '../images/file-verifier.ts';
import type { PlatformService } from '../images/platform-service.ts';
import type { TemplateKeys } from '../templates/template-keys.ts';

export interface SnapshotNeedsDeps {
  readonly images: ImageService;
  readonly platforms: PlatformService;
  readonly keys: TemplateKeys;
  readonly verifier: FileVerifier;
}

/** What VMs can be started from, once it is known that they can. */
export interface UsableSnapshot {
  readonly image: LocalImage;
  /** Undefined: only the disk. */
  readonly frozen: FrozenMachine | undefined;
}

export class SnapshotNeeds {
  readonly #deps: SnapshotNeedsDeps;

  constructor(deps: SnapshotNeedsDeps) {
    this.#deps = deps;
  }

  /**
   * Everything that can be known before anything is changed.
   * @param diskOnly leave its memory alone, and what that needs
   * @throws {BangerError} `unsupported` (says what is another one), `verify_failed`, `cancelled`
   */
  async assertUsable(
    snapshot: VmSnapshot,
    diskOnly: boolean,
    operation: OperationHandle,
  ): Promise<UsableSnapshot> {
    const { manifest } = snapshot;
    const image = await this.#imageOf(snapshot);
    const frozen = diskOnly ? undefined : frozenSnapshot(snapshot);
    if (frozen !== undefined) {
      const platform = await this.#deps.platforms.platform(manifest.vm.spec.accel, image.kernel, operation);
      await this.#assertSameShape(snapshot, image, platform, operation.signal);
    }
    operation.progress({ step: 'verify', text: `reading the snapshot ${manifest.name}` });
    await this.verify(snapshot, frozen !== undefined, operation.signal);
    return { image, frozen };
  }

  /** Why it cannot be used, as far as that can be seen without reading it. */
  async problem(snapshot: VmSnapshot): Promise<string | null> {
    try {
      const image = await this.#imageOf(snapshot);
      const platform = await this.#deps.platforms.known(snapshot.manifest.vm.spec.accel, image.kernel);
      if (platform === undefined || frozenSnapshot(snapshot) === undefined) return null;
      await this.#assertSameShape(snapshot, image, platform, new AbortController().signal);
      return null;
    } catch (error) {
      return errorText(error);
    }
  }

  /** The image that a disk stands on. @throws {BangerError} `unsupported` */
  async image(name: string, rootfsSha256: string, of: string): Promise<LocalImage> {
    const image = await this.#deps.images.find(name);
    if (image?.manifest.rootfs.sha256 === rootfsSha256) return image;
    const why =
      image === undefined
        ? 'is not here any more'
        : `is another one: its digest is ${shortId(image.manifest.rootfs.sha256)}, and was ${shortId(rootfsSha256)}`;
    throw new BangerError('unsupported', `${of} needs the image "${name}", which ${why}`, {
      hint: 'banger image list shows those that are here',
    });
  }

  /** Each file is read once in a daemon's life. @throws {BangerError} `verify_failed`, `cancelled` */
  async verify({ dir, manifest }: VmSnapshot, withMemory: boolean, signal: AbortSignal): Promise<void> {
    const { verifier } = this.#deps;
    const paths = frozenPaths(dir);
    await verifier.verify({ path: paths.rootDisk, ...manifest.rootDisk }, signal);
    await verifier.verify({ path: paths.transferDisk, ...manifest.transferDisk }, signal);
    if (!withMemory || manifest.memory === null || manifest.state === null) return;
    if (!(await isWholeState(paths.state, manifest.state))) {
      throw new BangerError('verify_failed', `the frozen state ${paths.state} is not what was written`, {
        hint: '--disk-only uses the disk of the snapshot alone',
      });
    }
    await verifier.verify({ path: paths.memory, ...manifest.memory }, signal);
  }

  async #imageOf({ manifest: { name, image } }: VmSnapshot): Promise<LocalImage> {
    return await this.image(image.name, image.rootfsSha256, `the snapshot "${name}"`);
  }

  async #assertSameShape(
    { manifest }: VmSnapshot,
    image: LocalImage,
    platform: Platform,
    signal: AbortSignal,
  ): Promise<void> {
    const { name, shape, vcpus, memoryMib, initramfsSha256 } = manifest;
    const wanted = { image, platform, vcpus, memoryMib };
    const facts = await this.#deps.keys.of(wanted, signal, initramfsSha256);
    const differences = shapeDifferences(shape, facts.shape);
    if (differences.length === 0) return;
    const message = `the memory of the snapshot "${name}" is of another machine: ${differences.join('; ')}`;
    throw new BangerError('unsupported', message, { hint: '--disk-only uses its disk alone' });
  }
}
