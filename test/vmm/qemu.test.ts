/** QEMU's machines: the contract, and what is found out about a host. */

import assert from 'node:assert/strict';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Platform } from '../../src/vmm/driver.ts';
import { machineContract } from './contract/machines.ts';
import { qemuSubject } from './contract/subject.ts';
import { EMULATED, newDriver, openWorkshop } from './fixture.ts';

const workshop = await openWorkshop();
after(() => workshop[Symbol.asyncDispose]());
const driver = newDriver();
const [MICROVM, Q35] = EMULATED as readonly [Platform, Platform];

machineContract(qemuSubject(MICROVM), ['disks', 'adoption', 'pause']);
machineContract(qemuSubject(Q35), ['disks', 'pause', 'panic']);

test('the probe finds a platform that boots here, in bounded time, and leaves nothing', async () => {
  const scratchDir = join(workshop.dir, 'scratch');
  await mkdir(scratchDir);
  const steps: string[] = [];
  const { chosen, attempts } = await driver.probe({
    kernelPath: workshop.kernelPath,
    initramfsFor: workshop.initramfsFor,
    scratchDir,
    accel: 'auto',
    signal: AbortSignal.timeout(120_000),
    onStep: (text) => steps.push(text),
  });
  assert.equal(attempts.at(-1)?.works, true);
  assert.deepEqual(attempts.at(-1)?.platform, chosen);
  assert.match(chosen.vmmVersion, /^\d+\.\d+/);
  for (const attempt of attempts.slice(0, -1)) assert.notEqual(attempt.reason, undefined);
  assert.equal(steps[0], 'trying kvm (microvm)');
  assert.deepEqual(await readdir(scratchDir), []);
});
