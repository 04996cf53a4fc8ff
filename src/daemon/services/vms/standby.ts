/**
 * One machine that was restored from a template ahead of time: it has said hello, has run what every VM runs first, and stands
 * still. The next VM of its kind begins with it, where otherwise its guest's first steps are still to be emulated. It belongs
 * to nobody until then, and to one VM from then on.
 */

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../../../core/errors.ts';
import { frozenPaths } from '../../../frozen/manifest.ts';
import { frozenTemplate, type Template } from '../../../frozen/template-store.ts';
import { newId } from '../../../host/ids.ts';
import { removeTree, temporaryPath } from '../../../host/files.ts';
import type { Log } from '../../../host/log.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import { copyRootDisk } from '../../../images/disk.ts';
import { buildGuestConfig } from '../../../guest/guest-config.ts';
import { run } from '../../../guest/run.ts';
import type { DriverCapabilities, VmmDriver } from '../../../vmm/driver.ts';
import { withUndo } from '../../undo.ts';
import { makeSocketDir, makeTransferDisk, removeSocketDir, type VmFiles, vmFiles } from '../../vm-files.ts';
import { macOf, userNetworkOf } from '../guests/guest-network.ts';
import type { LiveVm } from './live-vm.ts';
import { configureRestored, restoreMachine } from './machine-restore.ts';
import { networkFor, rootDiskFormat } from './driver-limits.ts';
import { machineSpec } from './machine-spec.ts';
import { endMachine } from './machine-start.ts';
import type { TemplateKeys, TemplateWanted } from '../templates/template-keys.ts';
import type { TemplateService } from '../templates/template-service.ts';

const PREPARE_TIMEOUT_MS = 60_000;
/** Whoever has not started a VM for this long can wait a moment longer for the next one. */
const MAX_AGE_MS = 15 * 60_000;
/** What a first command needs of the guest's kernel and C library. */
const REHEARSED: readonly (readonly string[])[] = [['/bin/true'], ['/bin/sh', '-c', 'true']];
/** Nobody's: replaced before anybody can use it. */
const PROVISIONAL_IP = '192.0.2.2';

export interface StandbyMachine {
  /** Of the VM that it will be: its directory and its MAC address are made of it. */
  readonly id: string;
  readonly live: LiveVm;
  /** A file in its directory while it is nobody's, named after this process: doctor/vm-reality.ts. To be removed by whoever takes it. */
  readonly markPath: string;
}

interface Kind {
  readonly key: string;
  readonly diskSizeBytes: number;
}

export interface StandbyDeps {
  readonly paths: BangerPaths;
  readonly driver: VmmDriver;
  readonly keys: TemplateKeys;
  readonly templates: TemplateService;
  readonly log: Log;
  readonly isEnabled: boolean;
}

export class Standby {
  readonly #deps: StandbyDeps;
  readonly #stop = new AbortController();
  #ready: (StandbyMachine & Kind & { readonly timer: NodeJS.Timeout }) | undefined;
  #making: Promise<void> | undefined;

  constructor(deps: StandbyDeps) {
    this.#deps = deps;
  }

  get isReady(): boolean {
    return this.#ready !== undefined;
  }

  /** The machine, which is the caller's from now on; undefined when there is none of that kind. */
  take(key: string, diskSizeBytes: number): StandbyMachine | undefined {
    const ready = this.#ready;
    if (ready === undefined || ready.key !== key || ready.diskSizeBytes !== diskSizeBytes) return undefined;
    this.#ready = undefined;
    clearTimeout(ready.timer);
    const { id, live, markPath } = ready;
    return { id, live, markPath };
  }

  /** Makes one of that kind in the background, in the place of another kind's; what goes wrong is logged. */
  prepare(wanted: TemplateWanted, diskSizeBytes: number): void {
    const { isEnabled, log } = this.#deps;
    if (!isEnabled || this.#stop.signal.aborted || this.#making !== undefined) return;
    this.#making = this.#make(wanted, diskSizeBytes)
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted) log.warn({ err: error }, 'could not make a standby machine');
      })
      .finally(() => {
        this.#making = undefined;
      });
  }

  /** One that was taken, if any, and could not be used. Idempotent. */
  async discard(taken: StandbyMachine | undefined): Promise<void> {
    if (taken === undefined) return;
    const { id, live } = taken;
    const files = vmFiles(this.#deps.paths, id);
    await endMachine(live);
    await removeSocketDir(files);
    await removeTree(files.dir, { below: this.#deps.paths.vmsDir });
  }

  /** Nothing of it is left afterwards. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#making;
    await this.#drop();
  }

  async #drop(): Promise<void> {
    const ready = this.#ready;
    this.#ready = undefined;
    if (ready === undefined) return;
    clearTimeout(ready.timer);
    await this.discard(ready);
  }

  async #make(wanted: TemplateWanted, diskSizeBytes: number): Promise<void> {
    const { templates, log } = this.#deps;
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(PREPARE_TIMEOUT_MS)]);
    const template = await templates.find(wanted, signal);
    if (template === undefined) return;
    const { key } = template;
    if (this.#ready?.key === key && this.#ready.diskSizeBytes === diskSizeBytes) return;
    await this.#drop();
    const id = newId();
    const markPath = temporaryPath(join(vmFiles(this.#deps.paths, id).dir, 'standby'));
    const live = await this.#restore({ id, markPath }, template, wanted, diskSizeBytes, signal);
    const drop = (): void => {
      if (this.#ready?.id !== id) return;
      this.#drop().catch((error: unknown) => log.warn({ err: error }, 'could not remove a standby machine'));
    };
    const timer = setTimeout(drop, MAX_AGE_MS).unref();
    this.#ready = { id, live, markPath, key, diskSizeBytes, timer };
    void live.exited.then(drop);
    if (this.#stop.signal.aborted) await this.#drop();
  }

  async #restore(
    { id, markPath }: { readonly id: string; readonly markPath: string },
    template: Template,
    wanted: TemplateWanted,
    diskSizeBytes: number,
    signal: AbortSignal,
  ): Promise<LiveVm> {
    const { paths, driver, keys, log } = this.#deps;
    const files = vmFiles(paths, id);
    const facts = await keys.of(wanted, signal);
    const { platform, vcpus, memoryMib, image } = wanted;
    const { capabilities } = driver;
    const network = networkFor(capabilities, { kind: 'unplugged', mac: macOf(id) });
    const { initramfsPath, digests } = facts;
    const spec = machineSpec({
      capabilities,
      ...{ name: 'standby', platform, vcpus, memoryMib, kernel: image.kernel, initramfsPath, files, network },
    });
    return await withUndo(async (undo) => {
      await undo.step(
        'files',
        () =>
          makeFiles(files, markPath, template, {
            format: rootDiskFormat(capabilities),
            sizeBytes: diskSizeBytes,
            signal,
          }),
        () => removeTree(files.dir, { below: paths.vmsDir }),
      );
      await undo.step(
        'sockets',
        () => makeSocketDir(files),
        () => removeSocketDir(files),
      );
      const about = { driver, log, vmId: id, spec, files, undo, signal };
      const frozen = frozenTemplate(template);
      const restore = { ...about, frozen, digests, mustAnswer: false, rootDiskBytes: diskSizeBytes };
      const restored = await restoreMachine(restore);
      const { live, agent } = await configureRestored(
        restored,
        provisionalConfig(capabilities, id, diskSizeBytes),
        signal,
      );
      for (const argv of REHEARSED) await run(agent, { argv }, { signal, maxOutputBytes: 1024 });
      if (signal.aborted) throw new BangerError('cancelled', 'cancelled');
      await live.machine.pause();
      return live;
    });
  }
}

async function makeFiles(
  files: VmFiles,
  markPath: string,
  template: Template,
  disk: Parameters<typeof copyRootDisk>[2],
): Promise<void> {
  await mkdir(files.dir, { mode: 0o700 });
  await writeFile(markPath, '', { mode: 0o600 });
  await makeTransferDisk(files);
  await copyRootDisk(frozenPaths(template.dir).rootDisk, files.rootDisk, disk);
}

function provisionalConfig(capabilities: DriverCapabilities, id: string, rootDiskBytes: number) {
  const user = userNetworkOf({ id, guestIp: PROVISIONAL_IP, outbound: false });
  const network = networkFor(capabilities, user);
  return buildGuestConfig({
    vmId: id,
    hostname: 'standby',
    network: network.kind === 'none' ? null : { ...network, prefixLength: 24 },
    authorizedKeys: [],
    handOverInit: false,
    rootDiskBytes,
    isProvisional: true,
  });
}
