/** Which driver the daemon starts machines with, by its settings. */

import { join } from 'node:path';
import type { DriverName } from '../core/model/vm.ts';
import type { Config } from '../host/config.ts';
import type { Log } from '../host/log.ts';
import type { CommandRunner } from '../host/runner.ts';
import type { VmmDriver } from '../vmm/driver.ts';
import { createFirecrackerDriver } from '../vmm/firecracker/driver.ts';
import { FIRECRACKER_PROGRAM } from '../vmm/firecracker/program.ts';
import { createQemuDriver } from '../vmm/qemu/driver.ts';

const QEMU_PROGRAM = 'qemu-system-x86_64';

export type DriverConfig = Pick<Config, 'driver' | 'qemuBin' | 'firecrackerBin'>;

export interface DriverDeps {
  readonly runner: CommandRunner;
  /** Where tsc-khz lies. */
  readonly guestBinDir: string;
  /** Where the rate of the host's TSC is kept. Left out: it is measured each time. */
  readonly tscRateFile?: string;
  readonly log?: Log;
}

/** Its program: absolute, or to be looked up in PATH. */
export function vmmProgramOf(config: DriverConfig, name: DriverName = config.driver): string {
  return name === 'qemu' ? (config.qemuBin ?? QEMU_PROGRAM) : (config.firecrackerBin ?? FIRECRACKER_PROGRAM);
}

export function createDriver(
  config: DriverConfig,
  deps: DriverDeps,
  name: DriverName = config.driver,
): VmmDriver {
  const { runner, guestBinDir, tscRateFile, log } = deps;
  const common = { runner, ...(log === undefined ? {} : { log }) };
  if (name === 'firecracker') {
    return createFirecrackerDriver({ ...common, firecrackerPath: vmmProgramOf(config, name) });
  }
  return createQemuDriver({
    ...common,
    tscToolPath: join(guestBinDir, 'tsc-khz'),
    qemuPath: vmmProgramOf(config, name),
    ...(tscRateFile === undefined ? {} : { tscRateFile }),
  });
}

/** Machines that were started before the settings were changed run on, and must be found: each by its own driver. */
export function adoptingAll(driver: VmmDriver, others: readonly VmmDriver[]): VmmDriver {
  return {
    name: driver.name,
    capabilities: driver.capabilities,
    probe: (options) => driver.probe(options),
    argv: (spec) => driver.argv(spec),
    launch: (spec, onSpawn) => driver.launch(spec, onSpawn),
    shape: (spec, digests, signal) => driver.shape(spec, digests, signal),
    restore: (spec, options, onSpawn) => driver.restore(spec, options, onSpawn),
    adopt: async (handles) => {
      const its = [driver, ...others].find(({ name }) => name === handles.driver);
      return await its?.adopt(handles);
    },
  };
}
