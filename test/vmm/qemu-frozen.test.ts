/** Frozen machines with QEMU: the contract, and what only its own behaviour decides. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isSameProcess } from '../../src/host/proc.ts';
import type { FrozenState, MachineHandles, Platform } from '../../src/vmm/driver.ts';
import { frozenMachineContract } from './contract/frozen.ts';
import { cloneOf, bootAndSave, type Frozen, inGuest, userNetwork, withAgents } from './contract/guest.ts';
import { qemuSubject } from './contract/subject.ts';
import { EMULATED, newDriver, openWorkshop, type Workshop } from './fixture.ts';

const driver = newDriver();
const [MICROVM, Q35] = EMULATED as readonly [Platform, Platform];

frozenMachineContract(qemuSubject(MICROVM));

describe('frozen machines of QEMU q35', () => {
  let workshop: Workshop;
  let frozen: Frozen;
  before(async () => {
    workshop = await openWorkshop();
    // Not unplugged, as a machine in use is not.
    const network = userNetwork(20);
    frozen = await bootAndSave(
      driver,
      workshop,
      Q35,
      async (agent) => void (await inGuest(agent, 'echo kept > /run/memory')),
      { network },
    );
  });
  after(() => workshop[Symbol.asyncDispose]());

  test('what was saved with a user network goes on with another one, open or closed', async () => {
    const network = { ...userNetwork(30), outbound: true } as const;
    const { spec, options } = await cloneOf(driver, workshop, frozen, 'other-network', { spec: { network } });
    const machine = await driver.restore(spec, options, async () => {});
    await withAgents([machine], async ([agent]) => {
      assert(agent !== undefined);
      assert.equal(await inGuest(agent, 'cat /run/memory'), 'kept');
      const open = await openFiles(machine.handles.pid);
      assert.equal(open.includes(frozen.state.path), false, 'the state is closed once it is loaded');
      assert.equal(await readFile(spec.vmmLogPath, 'utf8'), '');
    });
  });

  test('… but with nothing else: QEMU says so and ends', async () => {
    const network = { kind: 'unplugged', mac: '52:54:00:00:00:01' } as const;
    const { spec, options } = await cloneOf(driver, workshop, frozen, 'no-network', { spec: { network } });
    const restoring = driver.restore(spec, options, async () => {});
    await assert.rejects(restoring, { code: 'vmm_failed', message: /slirp[^]*load of migration failed/ });
  });

  test('a state that ends early, with a digest that says it is right, ends QEMU with its last words', async () => {
    const whole = await readFile(frozen.state.path);
    for (const part of [0, 0.3, 0.7]) {
      const { spec, options } = await cloneOf(driver, workshop, frozen, `part-${part}`, {
        options: { state: await stateOf(join(workshop.dir, 'part'), whole.subarray(0, whole.length * part)) },
      });
      let handles: MachineHandles | undefined;
      const restoring = driver.restore(spec, options, async (given) => {
        handles = given;
      });
      await assert.rejects(
        restoring,
        { code: 'vmm_failed', message: /load of migration failed/ },
        String(part),
      );
      assert(handles !== undefined && !isSameProcess(handles));
    }
  });
});

async function stateOf(path: string, content: Buffer): Promise<FrozenState> {
  await writeFile(path, content);
  return { path, sizeBytes: content.length, sha256: createHash('sha256').update(content).digest('hex') };
}

async function openFiles(pid: number): Promise<readonly string[]> {
  const fds = await readdir(`/proc/${pid}/fd`);
  return await Promise.all(fds.map(async (fd) => await readlink(`/proc/${pid}/fd/${fd}`)));
}
