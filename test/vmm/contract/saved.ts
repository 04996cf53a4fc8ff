/** Part of the contract of frozen machines: a machine that is saved goes on. */

import assert from 'node:assert/strict';
import { mkdir, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import type { Machine, MachineSpec, RestoreOptions, VmmDriver } from '../../../src/vmm/driver.ts';
import { connectAgent, run, type Workshop } from '../fixture.ts';
import {
  cloneOf,
  DIGESTS,
  digestOf,
  type Frozen,
  guestSpec,
  inGuest,
  saveIn,
  networkOf,
  rootFormat,
} from './guest.ts';

/** Of `seq 100000`. */
const SEQ_MD5 = 'dea9193b768319cbb4ff1a137ac03113  -';
const never = new AbortController().signal;

/** What the tests of the contract work with. */
export interface Given {
  readonly driver: VmmDriver;
  readonly workshop: Workshop;
  readonly frozen: Frozen;
}

export async function goesOn({ driver, workshop, frozen }: Given): Promise<void> {
  const made = await guestSpec(driver, workshop, 'goes-on', frozen.spec.platform);
  const { spec, memoryPath } = made;
  const statePath = join(dirname(memoryPath), 'state');
  const shape = await driver.shape(spec, DIGESTS, AbortSignal.timeout(30_000));
  const machine = await driver.launch(spec, async () => {});
  try {
    await assert.rejects(saveIn(machine, statePath, memoryPath), { code: 'invalid_state' });
    await said(machine, 'echo 1 > /run/count; cat /run/count', '1');
    await machine.pause();
    await saveIn(machine, statePath, memoryPath);
    await assert.rejects(saveIn(machine, statePath, memoryPath), { code: 'invalid_state' }, 'once per pause');

    // As a later daemon would: nothing but the handles is known of it.
    const adopted = await driver.adopt(machine.handles);
    machine.release();
    assert(adopted !== undefined);
    assert.equal(await adopted.runState(), 'paused');
    await adopted.resume();
    assert.equal(await adopted.runState(), 'running');
    await said(adopted, 'echo 2 >> /run/count; echo 2 > /root/disk; sync; cat /run/count', '1\n2');

    await adopted.pause();
    const state = await saveIn(adopted, statePath, memoryPath);
    const rootPath = await copyDisk(driver, made.rootPath);
    await adopted.resume();
    await said(adopted, 'echo 3 >> /run/count; cat /run/count /root/disk', '1\n2\n3\n2');
    adopted.release();
    const clone = await cloneOf(driver, workshop, { ...made, rootPath, shape, state }, 'of-one-that-went-on');
    await restored(driver, clone, 'cat /run/count /root/disk', '1\n2\n2');
  } finally {
    await machine.kill();
  }
}

export async function savedClone({ driver, workshop, frozen }: Given): Promise<void> {
  const { spec, options } = await cloneOf(driver, workshop, frozen, 'saved');
  const machine = await driver.restore(spec, options, async () => {});
  try {
    const before = await digestOf(frozen.memoryPath);
    // Not synced: what counts is what the guest's kernel hands over by itself, or keeps in its memory.
    await said(machine, 'seq 100000 > /root/many; echo of a clone > /run/memory; cat /root/disk', 'on disk');
    await machine.pause();
    const [statePath, memoryPath] = [join(workshop.dir, 'second-state'), join(workshop.dir, 'second-memory')];
    const state = await saveIn(machine, statePath, memoryPath);
    const rootPath = await copyDisk(driver, spec.disks[0]?.path ?? '');
    await machine.resume();
    await said(machine, 'cat /run/memory; md5sum < /root/many', `of a clone\n${SEQ_MD5}`);
    const again = { ...frozen, rootPath, memoryPath, state };
    const clone = await cloneOf(driver, workshop, again, 'clone-of-a-clone', {
      spec: { network: networkOf(driver, 11) },
    });
    await restored(driver, clone, 'cat /run/memory; md5sum < /root/many', `of a clone\n${SEQ_MD5}`);
    assert.equal(await digestOf(frozen.memoryPath), before);
  } finally {
    await machine.kill();
  }
}

export async function savedInTalk({ driver, workshop, frozen }: Given): Promise<void> {
  const { spec, options } = await cloneOf(driver, workshop, frozen, 'talking');
  const machine = await driver.restore(spec, options, async () => {});
  try {
    const agent = await connectAgent(machine);
    const long = inGuest(
      agent,
      'echo > /run/began; while [ ! -e /run/go-on ]; do sleep 0.05; done; echo done',
    );
    long.catch(() => {});
    await inGuest(agent, 'while [ ! -e /run/began ]; do sleep 0.05; done');
    await machine.pause();
    const [statePath, memoryPath] = [join(workshop.dir, 'talk-state'), join(workshop.dir, 'talk-memory')];
    const state = await saveIn(machine, statePath, memoryPath);
    const rootPath = await copyDisk(driver, spec.disks[0]?.path ?? '');
    await machine.resume();
    if (driver.capabilities.savingKeepsChannel) {
      await inGuest(agent, 'touch /run/go-on');
      assert.equal(await long, 'done');
      agent.close();
    } else {
      // Not the command's time limit.
      await assert.rejects(long, { code: 'channel_broken' });
      await agent.closed;
      await said(machine, 'cat /run/memory', 'in memory');
    }
    const again = { ...frozen, rootPath, memoryPath, state };
    const clone = await cloneOf(driver, workshop, again, 'clone-in-talk', {
      spec: { network: networkOf(driver, 12) },
    });
    await restored(driver, clone, 'cat /run/memory; ls /run/began', 'in memory\n/run/began');
  } finally {
    await machine.kill();
  }
}

/** A disk of a paused machine, which must be whole. */
async function copyDisk(driver: VmmDriver, path: string): Promise<string> {
  const copy = `${path}.copy`;
  await run('cp', [path, copy]);
  if (rootFormat(driver) === 'qcow2') await run('qemu-img', ['check', '-q', copy]);
  return copy;
}

async function restored(
  driver: VmmDriver,
  { spec, options }: { readonly spec: MachineSpec; readonly options: RestoreOptions },
  script: string,
  output: string,
): Promise<void> {
  const machine = await driver.restore(spec, options, async () => {});
  try {
    await said(machine, script, output);
  } finally {
    await machine.kill();
  }
}

export async function failures({ driver, workshop, frozen }: Given): Promise<void> {
  const { spec, options } = await cloneOf(driver, workshop, frozen, 'failing');
  const machine = await driver.restore(spec, options, async () => {});
  const dir = join(workshop.dir, 'failing-files');
  await mkdir(dir);
  const paths = { statePath: join(dir, 'state'), memoryPath: join(dir, 'memory') };
  const began = async (): Promise<void> => {
    while ((await readdir(dir)).length < 2) await turn();
    assert.equal((await readdir(dir)).includes('state'), false, 'not before it is whole');
  };
  try {
    await machine.pause();
    await assert.rejects(machine.save({ ...paths, signal: AbortSignal.abort() }), { code: 'cancelled' });
    const nowhere = { ...paths, memoryPath: join(dir, 'no', 'memory'), signal: never };
    await assert.rejects(machine.save(nowhere), { code: 'io_error' });

    const abort = new AbortController();
    const cancelled = assert.rejects(machine.save({ ...paths, signal: abort.signal }), { code: 'cancelled' });
    await began();
    abort.abort();
    await cancelled;
    assert.deepEqual(await readdir(dir), []);
    assert.equal(await machine.runState(), 'paused');
    await machine.resume();
    await said(machine, 'cat /run/memory', 'in memory');

    await machine.pause();
    const killed = assert.rejects(machine.save({ ...paths, signal: never }), { code: 'vmm_failed' });
    await began();
    process.kill(machine.handles.pid, 'SIGKILL');
    await killed;
    assert.deepEqual(await readdir(dir), []);
  } finally {
    await machine.kill();
  }
}

/**
 * The guest answers with this. An agent that was stopped before it heard of a hang-up hears of it in the next session, and breaks
 * that off (docs/agent-protocol.md, the twelve 0xFF bytes): a host connects once more.
 */
async function said(machine: Machine, script: string, output: string): Promise<void> {
  try {
    await saidOnce(machine, script, output);
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'channel_broken', String(error));
    await saidOnce(machine, script, output);
  }
}

async function saidOnce(machine: Machine, script: string, output: string): Promise<void> {
  const agent = await connectAgent(machine);
  try {
    assert.equal(await inGuest(agent, script), output);
  } finally {
    agent.close();
  }
}
