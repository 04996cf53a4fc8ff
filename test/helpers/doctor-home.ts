/** A home for the doctor to look at: as a daemon leaves it, and then broken by the test. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { DaemonStatus } from '../../src/api/results/daemon.ts';
import type { DoctorFinding, DoctorFix, DoctorReport } from '../../src/api/results/doctor.ts';
import type { Progress } from '../../src/api/contract.ts';
import type { ImageManifest, ImageRecord, KernelManifest } from '../../src/core/model/image.ts';
import type { VmRecord } from '../../src/core/model/vm.ts';
import { CHECKS, createDoctor, type DoctorDeps } from '../../src/daemon/doctor/doctor.ts';
import { vmFiles } from '../../src/daemon/vm-files.ts';
import { type BangerPaths, resolvePaths } from '../../src/host/paths.ts';
import { NO_LOG } from '../../src/host/log.ts';
import { createRunner } from '../../src/host/runner.ts';
import { createOverlay } from '../../src/images/disk.ts';
import { formatManifest } from '../../src/images/manifests.ts';
import { sparseDigest } from '../../src/host/sparse-digest.ts';
import { listen } from '../../src/rpc/server.ts';
import type { Handlers } from '../../src/rpc/server-types.ts';
import { TicketBooth } from '../../src/rpc/tickets.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { handlersWith } from '../rpc/fixture.ts';
import { someImage, someVm } from './store-records.ts';

const ROOTFS_BYTES = 1024 * 1024;
const DISK_BYTES = 1024 * 1024 * 1024;
export const VERSION = '0.0.0+test';

export interface FixedHome {
  readonly image: ImageRecord;
  readonly vm: VmRecord;
}

export class DoctorHome implements Disposable {
  readonly dir: string = mkdtempSync(join(tmpdir(), 'bd-'));
  readonly paths: BangerPaths = resolvePaths({ BANGER_HOME: this.dir }, 0);
  readonly guestBinDir: string = join(this.dir, 'guest');
  /** What the doctor said it was doing. */
  readonly progress: Progress[] = [];

  /** The directories a daemon makes. */
  makeDirectories(): this {
    const { paths } = this;
    for (const dir of [paths.stateDir, paths.cacheDir, paths.runtimeDir, paths.vmsDir, paths.imagesDir]) {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
    }
    for (const dir of [paths.kernelsDir, paths.scratchDir, paths.initramfsDir, paths.vmRuntimesDir]) {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
    }
    mkdirSync(this.guestBinDir, { mode: 0o700 });
    writeFileSync(join(this.guestBinDir, 'banger-agent'), '\x7fELF and so on', { mode: 0o700 });
    return this;
  }

  withStore<T>(work: (store: Store) => T): T {
    using store = openStore(this.paths.stateDb);
    return work(store);
  }

  /** A kernel and an image with small files, whose manifests are true. */
  async addImage(name = 'debian-bookworm'): Promise<ImageRecord> {
    const kernelDir = this.addKernel();
    const dir = join(this.paths.imagesDir, name);
    mkdirSync(dir, { mode: 0o700 });
    const rootfsPath = join(dir, 'rootfs.ext4');
    writeFileSync(rootfsPath, 'a root file system', { mode: 0o600 });
    truncateSync(rootfsPath, ROOTFS_BYTES);
    const manifest: ImageManifest = {
      manifestVersion: 1,
      name,
      distro: 'debian-bookworm',
      arch: 'amd64',
      kernelName: 'debian-bookworm-cloud',
      rootfs: {
        file: 'rootfs.ext4',
        format: 'raw',
        sizeBytes: 4096,
        virtualSizeBytes: ROOTFS_BYTES,
        sha256: await sparseDigest(rootfsPath, createRunner(), AbortSignal.timeout(10_000)),
      },
      source: 'test',
      builtAt: '2026-01-01T00:00:00.000Z',
      packages: [],
    };
    writeFileSync(join(dir, 'manifest.json'), formatManifest(manifest), { mode: 0o600 });
    const kernelPath = join(kernelDir, 'vmlinux');
    const record = someImage({
      name,
      artifactDir: dir,
      rootfsPath,
      kernelPath,
      modulesDir: join(kernelDir, 'modules'),
    });
    this.withStore((store) => store.upsertImage(record));
    return record;
  }

  addKernel(name = 'debian-bookworm-cloud'): string {
    const dir = join(this.paths.kernelsDir, name);
    mkdirSync(join(dir, 'modules'), { recursive: true, mode: 0o700 });
    const vmlinux = '\x7fELF a kernel';
    writeFileSync(join(dir, 'vmlinux'), vmlinux, { mode: 0o600 });
    writeFileSync(join(dir, 'modules', 'virtio.ko'), 'a module', { mode: 0o600 });
    const manifest: KernelManifest = {
      manifestVersion: 1,
      name,
      distro: 'debian-bookworm',
      arch: 'amd64',
      release: '6.1.0',
      vmlinux: {
        file: 'vmlinux',
        sizeBytes: Buffer.byteLength(vmlinux),
        sha256: createHash('sha256').update(vmlinux).digest('hex'),
      },
      modules: { mmio: ['modules/virtio.ko'], pci: [] },
      source: 'test',
      importedAt: '2026-01-01T00:00:00.000Z',
    };
    writeFileSync(join(dir, 'manifest.json'), formatManifest(manifest), { mode: 0o600 });
    return dir;
  }

  /** A VM with its row, and with a disk unless it never ran. */
  async addVm(image: ImageRecord, change: Partial<VmRecord> = {}): Promise<VmRecord> {
    const vm = this.withStore((store) =>
      store.insertVm(someVm(image.id, { state: 'stopped', ...change }), '10.0.2'),
    );
    if (vm.state !== 'created') await this.addDisk(image, vm.id);
    return vm;
  }

  async addDisk(image: ImageRecord, id: string): Promise<void> {
    const files = vmFiles(this.paths, id);
    mkdirSync(files.dir, { mode: 0o700 });
    await createOverlay({
      basePath: image.rootfsPath,
      baseFormat: 'raw',
      overlayPath: files.rootDisk,
      sizeBytes: DISK_BYTES,
    });
  }

  /** One image, one stopped VM: nothing wrong with it. */
  async populate(): Promise<FixedHome> {
    this.makeDirectories();
    const image = await this.addImage();
    return { image, vm: await this.addVm(image) };
  }

  #doctor(deps: Partial<DoctorDeps>) {
    const { paths, guestBinDir } = this;
    const env = { PATH: process.env['PATH'], HOME: this.dir, BANGER_HOME: this.dir };
    const host = { homeDir: this.dir, ...deps.host };
    return createDoctor({ paths, env, version: VERSION, guestBinDir, ...deps, host });
  }

  #operation(signal = new AbortController().signal) {
    return { signal, progress: (one: Progress) => void this.progress.push(one), about: () => undefined };
  }

  async report(
    deps: Partial<DoctorDeps> & { deep?: boolean; signal?: AbortSignal } = {},
  ): Promise<DoctorReport> {
    const { deep = false, signal, ...rest } = deps;
    return await this.#doctor(rest).run({ deep }, this.#operation(signal));
  }

  /** What one check finds, by itself. */
  async findings(id: string, deps: Partial<DoctorDeps> = {}): Promise<readonly DoctorFinding[]> {
    const checks = CHECKS.filter((check) => check.id === id);
    assert.equal(checks.length, 1, `no check ${id}`);
    return (await this.report({ deep: true, checks, ...deps })).findings;
  }

  /** `severity: text` of each finding of a check; with `[fixable]` and the fix where there is one. */
  async says(id: string, deps: Partial<DoctorDeps> = {}): Promise<string> {
    const lines = (await this.findings(id, deps)).map(({ severity, found, fix, fixable }) => {
      return `${severity}: ${found}${fix === null ? '' : ` → ${fix}`}${fixable ? ' [fixable]' : ''}`;
    });
    return lines.join('\n');
  }

  async fix(dryRun = false, ...ids: readonly string[]): Promise<readonly DoctorFix[]> {
    const checks = ids.length === 0 ? CHECKS : CHECKS.filter(({ id }) => ids.includes(id));
    return await this.#doctor({ checks }).fix({ dryRun }, this.#operation());
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A daemon of the test's own on the home's sockets, until the test ends. Methods that are not given refuse. */
export async function daemonOf(
  home: DoctorHome,
  context: TestContext,
  options: { readonly version?: string; readonly handlers?: Partial<Handlers> } = {},
): Promise<void> {
  const status = async () => ({ stateDir: home.paths.stateDir, names: null }) as DaemonStatus;
  const server = await listen({
    socketPath: home.paths.socketPath,
    streamSocketPath: home.paths.streamSocketPath,
    handlers: handlersWith({ 'daemon.status': status, ...options.handlers }),
    tickets: new TicketBooth(),
    version: options.version ?? VERSION,
    log: NO_LOG,
  });
  context.after(() => server.close({ graceMs: 0 }));
}
