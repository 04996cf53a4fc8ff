/** Whether this host has Firecracker itself, and KVM that works. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorText } from '../../../src/core/errors.ts';
import { findProgram } from '../../../src/host/find-program.ts';
import { createRunner } from '../../../src/host/runner.ts';
import { createFirecrackerDriver } from '../../../src/vmm/firecracker/driver.ts';
import { openWorkshop } from '../fixture.ts';

/** Its path, or why the contract is not run with it. */
export async function installedFirecracker(): Promise<{ readonly path: string } | { readonly why: string }> {
  const scratchDir = await mkdtemp(join(tmpdir(), 'fc-probe-'));
  try {
    const path = await findProgram('firecracker');
    const driver = createFirecrackerDriver({ runner: createRunner(), firecrackerPath: path });
    await using workshop = await openWorkshop('', 'vsock');
    const { kernelPath, initramfsFor } = workshop;
    const signal = AbortSignal.timeout(60_000);
    await driver.probe({ kernelPath, initramfsFor, scratchDir, accel: 'kvm', signal, onStep: () => {} });
    return { path };
  } catch (error) {
    return { why: errorText(error) };
  } finally {
    await rm(scratchDir, { recursive: true });
  }
}
