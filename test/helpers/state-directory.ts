/** A state directory for tests of what lies in it: images, kernels and VM directories, of a few bytes each. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ImageManifest } from '../../src/core/model/image.ts';
import type { VmRecord } from '../../src/core/model/vm.ts';
import { recordOf, type VmRecordFile, writeVmRecord } from '../../src/daemon/vm-record-file.ts';
import { vmFiles } from '../../src/daemon/vm-files.ts';
import { type BangerPaths, resolvePaths } from '../../src/host/paths.ts';
import { someVm } from './store-records.ts';

const DIGEST = 'd'.repeat(64);
const ROOTFS = 'a root file system';

export class StateDirectory implements Disposable {
  readonly paths: BangerPaths;
  readonly #home = mkdtempSync(join(tmpdir(), 'bt-state-'));

  constructor() {
    this.paths = resolvePaths({ BANGER_HOME: this.#home }, 0);
    for (const dir of [
      this.paths.vmsDir,
      this.paths.imagesDir,
      this.paths.kernelsDir,
      this.paths.vmRuntimesDir,
    ]) {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
    }
  }

  addKernel(name = 'cloud'): void {
    const dir = join(this.paths.kernelsDir, name);
    mkdirSync(dir);
    const manifest = {
      ...{ manifestVersion: 1, name, distro: 'debian', arch: 'amd64', release: '6.1', source: 'test' },
      vmlinux: { file: 'vmlinux', sizeBytes: 1, sha256: DIGEST },
      modules: { mmio: [], pci: [] },
      importedAt: '2026-01-01T00:00:00.000Z',
    };
    writeFileSync(join(dir, 'manifest.json'), JSON.stringify(manifest));
  }

  addImage(name = 'debian-bookworm', change: Partial<ImageManifest> = {}): string {
    const dir = join(this.paths.imagesDir, name);
    mkdirSync(dir);
    const sizes = { sizeBytes: ROOTFS.length, virtualSizeBytes: ROOTFS.length };
    const manifest: ImageManifest = {
      ...{ manifestVersion: 1, name, distro: 'debian', arch: 'amd64', kernelName: 'cloud', source: 'test' },
      rootfs: { file: 'rootfs.ext4', format: 'raw', ...sizes, sha256: DIGEST },
      builtAt: '2026-01-01T00:00:00.000Z',
      packages: [],
      ...change,
    };
    writeFileSync(join(dir, 'rootfs.ext4'), ROOTFS);
    writeFileSync(join(dir, 'manifest.json'), JSON.stringify(manifest));
    return dir;
  }

  /** A VM that was started once, and whose row may be anywhere. */
  async addVm(change: Partial<VmRecord> = {}, imageSha256: string | null = DIGEST): Promise<VmRecordFile> {
    const vm: VmRecord = { ...someVm('unknown'), guestIp: '172.16.0.2', ...change };
    const record = recordOf(vm, imageSha256);
    if (record === undefined) throw new Error('not a VM that has a record');
    const { dir, rootDisk } = vmFiles(this.paths, vm.id);
    await writeVmRecord(dir, record);
    writeFileSync(rootDisk, 'a disk');
    return record;
  }

  [Symbol.dispose](): void {
    rmSync(this.#home, { recursive: true, force: true });
  }
}
