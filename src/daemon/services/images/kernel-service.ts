/** Kernels: those on disk, and making one from its distribution's package when an image needs it. */

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { KernelEntry, KernelView } from '../../../api/results/image.ts';
import { BangerError } from '../../../core/errors.ts';
import type { KernelManifest } from '../../../core/model/image.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { buildKernel } from '../../../images/kernel-build.ts';
import { readKernelManifest } from '../../../images/manifests.ts';
import type { Store } from '../../../store/store.ts';
import type { OperationHandle } from '../../operations.ts';
import { SingleFlight } from '../../single-flight.ts';
import type { Progress } from '../../../api/contract.ts';

export interface LocalKernel {
  readonly dir: string;
  readonly manifest: KernelManifest;
}

export class KernelService {
  readonly #paths: BangerPaths;
  readonly #runner: CommandRunner;
  readonly #store: Store;
  readonly #onBuilt: () => void;
  readonly #flights = new SingleFlight<LocalKernel, Progress>();

  constructor(deps: {
    paths: BangerPaths;
    runner: CommandRunner;
    store: Store;
    /** There is a new kernel. */
    onBuilt: () => void;
  }) {
    this.#onBuilt = deps.onBuilt;
    this.#paths = deps.paths;
    this.#runner = deps.runner;
    this.#store = deps.store;
  }

  /** @throws {BangerError} `not_found`; `io_error` when its manifest is damaged */
  async get(name: string): Promise<LocalKernel> {
    const kernel = await this.find(name);
    if (kernel !== undefined) return kernel;
    throw new BangerError('not_found', `no kernel "${name}"`, { hint: 'banger kernel list' });
  }

  /** The kernel, built first where it is missing. Callers that want the same one share one build. */
  async ensure(name: string, operation: OperationHandle): Promise<LocalKernel> {
    return (
      (await this.find(name)) ??
      (await this.#flights.join(
        name,
        { signal: operation.signal, onProgress: operation.progress },
        async (signal, onProgress) => {
          const dir = join(this.#paths.kernelsDir, name);
          const { kernelsDir, scratchDir } = this.#paths;
          const runner = this.#runner;
          const manifest = await buildKernel({ name, kernelsDir, scratchDir, runner, signal, onProgress });
          this.#onBuilt();
          return { dir, manifest };
        },
      ))
    );
  }

  /** All of them: a broken one is listed with what is wrong with it. */
  async list(): Promise<readonly KernelEntry[]> {
    const names = (await readdir(this.#paths.kernelsDir)).filter((name) => !name.startsWith('.')).sort();
    return await Promise.all(names.map((name) => this.#entry(name)));
  }

  async #entry(name: string): Promise<KernelEntry> {
    try {
      return { ...(await this.show(name)), problem: null };
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      const dir = join(this.#paths.kernelsDir, name);
      return { name, dir, usedBy: this.#usedBy(dir), problem: `kernel "${name}": ${error.message}` };
    }
  }

  #usedBy(dir: string): readonly string[] {
    const images = this.#store.listImages().filter((image) => image.kernelPath.startsWith(`${dir}/`));
    return images.map(({ name }) => name);
  }

  async show(name: string): Promise<KernelView> {
    const { dir, manifest } = await this.get(name);
    return { ...manifest, dir, usedBy: this.#usedBy(dir) };
  }

  /** Undefined when it is not here. Makes nothing. */
  async find(name: string): Promise<LocalKernel | undefined> {
    const dir = join(this.#paths.kernelsDir, name);
    const manifest = await readKernelManifest(dir);
    return manifest === undefined ? undefined : { dir, manifest };
  }
}
