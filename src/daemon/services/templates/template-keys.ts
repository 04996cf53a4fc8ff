/** What a template depends on, and the key made of all that: another image, kernel, agent, VMM or size is another template. */

import { createHash } from 'node:crypto';
import { BangerError } from '../../../core/errors.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { Platform, ShapeDigests, VmmDriver } from '../../../vmm/driver.ts';
import { type MachineShape, shapeKey } from '../../../vmm/shape.ts';
import { vmFiles } from '../../vm-files.ts';
import type { LocalImage } from '../images/image-service.ts';
import { networkFor } from '../vms/driver-limits.ts';
import { machineSpec } from '../vms/machine-spec.ts';
import type { PlatformService } from '../images/platform-service.ts';

/** The card of a template is in nothing: what it is restored with may be plugged into anything. */
export const TEMPLATE_NETWORK = { kind: 'unplugged', mac: '52:54:00:00:00:01' } as const;
/** Raised when a template made by an older banger must not be used, for a reason that no digest shows. */
const TEMPLATE_VERSION = 1;
/** Paths and names are not part of a shape. */
const NO_ID = '0'.repeat(32);

export interface TemplateWanted {
  readonly image: LocalImage;
  readonly platform: Platform;
  readonly vcpus: number;
  readonly memoryMib: number;
}

export interface TemplateFacts {
  /** 64 hex digits. */
  readonly key: string;
  readonly shape: MachineShape;
  readonly digests: ShapeDigests;
  readonly initramfsPath: string;
}

export class TemplateKeys {
  readonly #paths: BangerPaths;
  readonly #driver: VmmDriver;
  readonly #platforms: PlatformService;

  constructor(deps: { paths: BangerPaths; driver: VmmDriver; platforms: PlatformService }) {
    this.#paths = deps.paths;
    this.#driver = deps.driver;
    this.#platforms = deps.platforms;
  }

  get areSupported(): boolean {
    const { canSave, canRestorePrivately, networks } = this.#driver.capabilities;
    // Where VMs have no network, a template needs no card.
    const canFreezeNetwork = networks.includes(TEMPLATE_NETWORK.kind) || !networks.includes('user');
    return canSave && canRestorePrivately && canFreezeNetwork;
  }

  /** @throws {BangerError} `unsupported` */
  assertSupported(): void {
    if (this.areSupported) return;
    throw new BangerError('unsupported', `VMs of ${this.#driver.name} cannot start from a template`);
  }

  /** @throws {BangerError} `dependency_missing`, `vmm_failed`, `cancelled` */
  async of(
    { image, platform, vcpus, memoryMib }: TemplateWanted,
    signal: AbortSignal,
    initramfsSha256?: string,
  ): Promise<TemplateFacts> {
    const initramfs = await this.#platforms.initramfs(image.kernel, platform.transport, initramfsSha256);
    const { capabilities } = this.#driver;
    const spec = machineSpec({
      capabilities,
      ...{ name: 'template', platform, vcpus, memoryMib, kernel: image.kernel },
      initramfsPath: initramfs.path,
      files: vmFiles(this.#paths, NO_ID),
      network: networkFor(capabilities, TEMPLATE_NETWORK),
    });
    const digests = { kernel: image.kernel.manifest.vmlinux.sha256, initramfs: initramfs.digest };
    const shape = await this.#driver.shape(spec, digests, signal);
    const parts = [TEMPLATE_VERSION, shapeKey(shape), image.manifest.rootfs.sha256];
    const key = createHash('sha256').update(JSON.stringify(parts)).digest('hex');
    return { key, shape, digests, initramfsPath: initramfs.path };
  }
}
