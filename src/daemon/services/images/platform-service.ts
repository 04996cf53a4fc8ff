/**
 * Which accelerator and machine type work on this host: found by a probe boot, remembered per host kernel,
 * VMM program, guest kernel and agent, so that it costs seconds once and nothing afterwards.
 */

import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { Progress } from '../../../api/contract.ts';
import type { AcceleratorChoice } from '../../../core/model/vm.ts';
import { readJsonFile, writeFileAtomic } from '../../../host/files.ts';
import type { Log } from '../../../host/log.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import { ensureInitramfs, findInitramfs, type Initramfs } from '../../../images/initramfs.ts';
import type { Platform, ProbeResult, Transport, VmmDriver } from '../../../vmm/driver.ts';
import type { OperationHandle } from '../../operations.ts';
import { SingleFlight } from '../../single-flight.ts';
import type { LocalKernel } from './kernel-service.ts';

const platformSchema = z.strictObject({
  accelerator: z.enum(['kvm', 'tcg']),
  machine: z.string().max(64),
  transport: z.enum(['mmio', 'pci']),
  vmmVersion: z.string().max(64),
});
const probeSchema = z.strictObject({
  chosen: platformSchema,
  probedAt: z.string(),
  attempts: z.array(
    z.strictObject({
      platform: platformSchema,
      works: z.boolean(),
      durationMs: z.number(),
      reason: z.string().optional(),
    }),
  ),
});
const cacheSchema = z.record(z.string(), probeSchema);
type Cache = z.infer<typeof cacheSchema>;
const CACHE_MAX_BYTES = 1024 * 1024;
/** Old keys (other kernels, other versions) are dropped beyond this many. */
const CACHE_MAX_ENTRIES = 32;

export class PlatformService {
  readonly #paths: BangerPaths;
  readonly #driver: VmmDriver;
  readonly #log: Log;
  readonly #agentPath: string;
  readonly #vmmProgram: () => Promise<string>;
  readonly #flights = new SingleFlight<Platform, Progress>();
  #memory: Cache | undefined;

  constructor(deps: {
    paths: BangerPaths;
    driver: VmmDriver;
    log: Log;
    agentPath: string;
    /** Absolute path of the VMM's program, for the cache key. */
    vmmProgram: () => Promise<string>;
  }) {
    this.#paths = deps.paths;
    this.#driver = deps.driver;
    this.#log = deps.log;
    this.#agentPath = deps.agentPath;
    this.#vmmProgram = deps.vmmProgram;
  }

  /**
   * The initramfs that boots this kernel on a platform with that transport. `wanted`: the digest of one that an earlier
   * banger made, which is given when it is still there.
   */
  async initramfs(kernel: LocalKernel, transport: Transport, wanted?: string): Promise<Initramfs> {
    const earlier = wanted === undefined ? undefined : await findInitramfs(this.#paths.initramfsDir, wanted);
    if (earlier !== undefined) return earlier;
    return await ensureInitramfs({
      kernelDir: kernel.dir,
      kernel: kernel.manifest,
      agentPath: this.#agentPath,
      transport,
      channel: this.#driver.capabilities.channel,
      cacheDir: this.#paths.initramfsDir,
    });
  }

  /** What an earlier probe found; undefined when there was none. */
  async known(accel: AcceleratorChoice, kernel: LocalKernel): Promise<Platform | undefined> {
    return (await this.#cache())[await this.#key(accel, kernel)]?.chosen;
  }

  /** @throws {BangerError} `dependency_missing`, `vmm_failed` (nothing works, with every reason), `cancelled` */
  async platform(
    accel: AcceleratorChoice,
    kernel: LocalKernel,
    operation: OperationHandle,
  ): Promise<Platform> {
    const known = await this.known(accel, kernel);
    if (known !== undefined) return known;
    const key = await this.#key(accel, kernel);
    return await this.#flights.join(
      key,
      { signal: operation.signal, onProgress: operation.progress },
      async (signal, onProgress) => {
        const result = await this.#driver.probe({
          kernelPath: join(kernel.dir, kernel.manifest.vmlinux.file),
          initramfsFor: async (transport) => (await this.initramfs(kernel, transport)).path,
          scratchDir: this.#paths.runtimeDir,
          accel,
          signal,
          onStep: (text) => onProgress({ step: 'probe_accelerator', text }),
        });
        await this.#remember(key, result);
        return result.chosen;
      },
    );
  }

  async #key(accel: AcceleratorChoice, kernel: LocalKernel): Promise<string> {
    const hash = createHash('sha256');
    for (const path of [await this.#vmmProgram(), this.#agentPath]) {
      const found = await stat(path);
      hash.update(`${path}\0${found.size}\0${found.mtimeMs}\0`);
    }
    hash.update(`${release()}\0${kernel.manifest.vmlinux.sha256}\0${accel}`);
    return hash.digest('hex').slice(0, 32);
  }

  async #cache(): Promise<Cache> {
    this.#memory ??= await readJsonFile(this.#paths.probeFile, CACHE_MAX_BYTES)
      .then((json) => cacheSchema.parse(json))
      .catch(() => ({}));
    return this.#memory;
  }

  async #remember(key: string, result: ProbeResult): Promise<void> {
    const { chosen, attempts } = result;
    this.#log.info({ chosen, attempts }, 'probed the accelerator');
    const entries = Object.entries({
      ...(await this.#cache()),
      [key]: probeSchema.parse({ chosen, attempts, probedAt: new Date().toISOString() }),
    });
    this.#memory = Object.fromEntries(entries.slice(-CACHE_MAX_ENTRIES));
    await writeFileAtomic(this.#paths.probeFile, `${JSON.stringify(this.#memory, null, 2)}\n`, {
      mode: 0o600,
      durable: false,
    });
  }
}
