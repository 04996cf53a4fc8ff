/** Boots a machine that nobody ever uses, and freezes it once it is idle. It gets no name, no keys, no network and no files. */

import { rm, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Progress } from '../../../api/contract.ts';
import { now } from '../../../host/clock.ts';
import { newId } from '../../../host/ids.ts';
import type { Log } from '../../../host/log.ts';
import { type BangerPaths, vmRuntimeDir } from '../../../host/paths.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { sparseDigest } from '../../../host/sparse-digest.ts';
import { frozenPaths } from '../../../frozen/manifest.ts';
import type { Template } from '../../../frozen/template-store.ts';
import type { TemplateStore } from '../../../frozen/template-store.ts';
import { createRootDisk } from '../../../images/disk.ts';
import type { VmmDriver } from '../../../vmm/driver.ts';
import { type Undo, withUndo } from '../../undo.ts';
import {
  machineFiles,
  makeSocketDir,
  makeTransferDisk,
  removeSocketDir,
  type VmFiles,
} from '../../vm-files.ts';
import { networkFor, rootDiskFormat } from '../vms/driver-limits.ts';
import { machineSpec } from '../vms/machine-spec.ts';
import { endMachine, startMachine } from '../vms/machine-start.ts';
import { TEMPLATE_NETWORK, type TemplateFacts, type TemplateWanted } from './template-keys.ts';

/** What a guest takes to notice that its host has hung up, many times over. */
const HANG_UP_MS = 500;

export interface TemplateMakerDeps {
  readonly paths: BangerPaths;
  readonly driver: VmmDriver;
  readonly runner: CommandRunner;
  readonly store: TemplateStore;
  readonly log: Log;
}

export class TemplateMaker {
  readonly #deps: TemplateMakerDeps;

  constructor(deps: TemplateMakerDeps) {
    this.#deps = deps;
  }

  /** @throws {BangerError} what a boot throws, `no_space`, `cancelled`; nothing is left of it then */
  async make(
    wanted: TemplateWanted,
    facts: TemplateFacts,
    signal: AbortSignal,
    onProgress: (progress: Progress) => void,
  ): Promise<void> {
    const { store, paths } = this.#deps;
    await using draft = await store.draft(facts.key);
    const id = newId();
    const files = machineFiles(draft.dir, vmRuntimeDir(paths, id));
    const say = (step: string, text: string): void => onProgress({ step, text });
    say('make_template', `making a template of ${wanted.image.record.name}`);
    const state = await withUndo((undo) => this.#boot(wanted, facts, { id, files, undo, signal, say }));
    await removeSocketDir(files);
    // What it had beside memory, state and root disk was only for the machine that ran.
    for (const path of [files.transferDisk, files.handlesFile, files.consoleLog, files.vmmLog]) {
      await rm(path, { force: true });
    }
    const { image, platform, vcpus, memoryMib } = wanted;
    const { memory, rootDisk } = frozenPaths(draft.dir);
    await store.writeManifest(draft, {
      createdAt: now(),
      shape: facts.shape,
      kernel: { name: image.kernel.manifest.name, sha256: facts.digests.kernel },
      initramfsSha256: facts.digests.initramfs,
      image: { name: image.record.name, rootfsSha256: image.manifest.rootfs.sha256 },
      vcpus,
      memoryMib,
      accelerator: platform.accelerator,
      machine: platform.machine,
      rootDiskBytes: diskBytes(wanted),
      rootDisk: await this.#fileFacts(rootDisk, signal),
      memory: await this.#fileFacts(memory, signal),
      state: { sizeBytes: state.sizeBytes, sha256: state.sha256 },
    });
    signal.throwIfAborted();
    await draft.publish();
  }

  async #fileFacts(path: string, signal: AbortSignal) {
    const { size: sizeBytes } = await stat(path);
    return { sizeBytes, sparseSha256: await sparseDigest(path, this.#deps.runner, signal) };
  }

  async #boot(
    { image, platform, vcpus, memoryMib }: TemplateWanted,
    facts: TemplateFacts,
    making: {
      readonly id: string;
      readonly files: VmFiles;
      readonly undo: Undo;
      readonly signal: AbortSignal;
      readonly say: (step: string, text: string) => void;
    },
  ) {
    const { driver, log } = this.#deps;
    const { files, undo, signal, say } = making;
    const { capabilities } = driver;
    await createRootDisk({
      basePath: image.record.rootfsPath,
      baseFormat: image.manifest.rootfs.format,
      path: files.rootDisk,
      format: rootDiskFormat(capabilities),
      sizeBytes: image.manifest.rootfs.virtualSizeBytes,
      signal,
    });
    await makeTransferDisk(files);
    await undo.step(
      'sockets',
      () => makeSocketDir(files),
      () => removeSocketDir(files),
    );
    const { memory, state } = frozenPaths(files.dir);
    const { initramfsPath } = facts;
    const spec = machineSpec({
      capabilities,
      ...{ name: 'template', platform, vcpus, memoryMib, kernel: image.kernel, initramfsPath, files },
      network: networkFor(capabilities, TEMPLATE_NETWORK),
    });
    const { live, agent } = await startMachine({
      driver,
      log,
      vmId: making.id,
      spec,
      files,
      undo,
      signal,
      say,
    });
    say('settle', 'waiting until the guest is idle');
    await agent.settle(signal);
    agent.close();
    // Clones would hear of it otherwise, in the middle of their first words.
    await sleep(HANG_UP_MS, undefined, { signal });
    say('save', 'saving the guest');
    await live.machine.pause();
    // Synced with everything else when the draft is published.
    const saved = await live.machine.save({ statePath: state, memoryPath: memory, durable: false, signal });
    await endMachine(live);
    return saved;
  }
}

/** The image's own size: a VM's disk is as large or larger. */
function diskBytes({ image }: TemplateWanted): number {
  return image.manifest.rootfs.virtualSizeBytes;
}

/** The files whose content is not looked at by the driver that restores them. */
export function unverifiedFiles({ dir, manifest }: Template) {
  const { memory, rootDisk } = frozenPaths(dir);
  return [
    { path: memory, ...manifest.memory },
    { path: rootDisk, ...manifest.rootDisk },
  ];
}
