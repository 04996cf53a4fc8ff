/** What the contract of drivers is kept by: one driver on one platform. */

import { createRunner } from '../../../src/host/runner.ts';
import type { Platform, VmmDriver } from '../../../src/vmm/driver.ts';
import { createFirecrackerDriver } from '../../../src/vmm/firecracker/driver.ts';
import { newDriver, TSC_TOOL } from '../fixture.ts';

export interface Subject {
  readonly title: string;
  readonly driver: VmmDriver;
  readonly platform: Platform;
  /** How another process makes the same driver: a module of src/, its factory, and options beside the runner. */
  readonly making: { readonly module: string; readonly factory: string; readonly options: object };
}

export function qemuSubject(platform: Platform): Subject {
  const options = { tscToolPath: TSC_TOOL };
  const making = { module: 'vmm/qemu/driver.ts', factory: 'createQemuDriver', options };
  return { title: `qemu ${platform.machine}`, driver: newDriver(), platform, making };
}

export function firecrackerSubject(title: string, firecrackerPath: string): Subject {
  const options = { firecrackerPath };
  const factory = 'createFirecrackerDriver';
  return {
    title,
    driver: createFirecrackerDriver({ runner: createRunner(), ...options }),
    platform: { accelerator: 'kvm', machine: 'firecracker', transport: 'mmio', vmmVersion: '' },
    making: { module: 'vmm/firecracker/driver.ts', factory, options },
  };
}
