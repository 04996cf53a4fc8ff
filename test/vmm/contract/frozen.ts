/**
 * What every driver that can save must keep: docs of `save` and `restore` in src/vmm/driver.ts. Real guests: one is
 * booted and saved, most others are its clones.
 */

import assert from 'node:assert/strict';
import { mkdir, open, readdir, stat, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isSameProcess } from '../../../src/host/proc.ts';
import { createRunner } from '../../../src/host/runner.ts';
import { sparseDigest } from '../../../src/host/sparse-digest.ts';
import type { MachineHandles, MachineSpec } from '../../../src/vmm/driver.ts';
import { openWorkshop, run, type Workshop } from '../fixture.ts';
import {
  cloneOf,
  digestOf,
  bootAndSave,
  type Frozen,
  inGuest,
  memoryOf,
  hasNetwork,
  networkOf,
  withAgents,
} from './guest.ts';
import type { Subject } from './subject.ts';
import { failures, type Given, goesOn, savedClone, savedInTalk } from './saved.ts';

const MIB = 1024 ** 2;
const runner = createRunner();
const never = new AbortController().signal;

export function frozenMachineContract({ driver, platform, title }: Subject): void {
  describe(`frozen machines: ${title}`, () => {
    let workshop: Workshop;
    let frozen: Frozen;
    before(async () => {
      workshop = await openWorkshop(`, "odd"=,,é`, driver.capabilities.channel);
      frozen = await bootAndSave(driver, workshop, platform, async (agent) => {
        await inGuest(agent, 'echo on disk > /root/disk; echo in memory > /run/memory; sync');
      });
    });
    after(() => workshop[Symbol.asyncDispose]());
    const given = () => ({ driver, workshop, frozen });

    test('a frozen machine is files that only the user can read, whole', () => filesOf(given()));
    test('two clones at once: what was is there, what one does the other does not see', () =>
      twoClones(given()));
    test('a clone has a network of its own, a disk grown, and a disk filled', () => cloneOfItsOwn(given()));
    test('another shape is refused by name before anything is started', () => otherShapes(given()));
    test('damaged files are refused before anything is started', () => damagedFiles(given()));
    test('a restore that is cancelled leaves no process', () => cancelledRestores(given()));
    test('a machine goes on after it was saved, also with a later daemon, and is saved again', () =>
      goesOn(given()));
    test('a clone is saved, with disks that are whole, and goes on beside its own clones', () =>
      savedClone(given()));
    test('a connection to the agent outlives a save, and a clone gets one of its own', () =>
      savedInTalk(given()));
    test('saving that fails: cancelled, the guest can go on; its VMM killed, no files', () =>
      failures(given()));
  });
}

async function filesOf({ frozen }: Given): Promise<void> {
  const { state, memoryPath, spec } = frozen;
  assert.equal((await stat(state.path)).size, state.sizeBytes);
  assert.equal(await digestOf(state.path), state.sha256);
  assert.equal((await stat(memoryPath)).size, spec.memoryMib * MIB);
  for (const path of [state.path, memoryPath]) assert.equal((await stat(path)).mode & 0o777, 0o600, path);
  assert.deepEqual(await readdir(dirname(state.path)), ['memory', 'root', 'state', 'transfer.img']);
}

async function twoClones({ driver, workshop, frozen }: Given): Promise<void> {
  const paths = [frozen.memoryPath, frozen.state.path, frozen.rootPath];
  const contents = () => Promise.all(paths.map((path) => sparseDigest(path, runner, never)));
  const before = await contents();
  const clones = await Promise.all(
    ['a', 'b'].map(async (name) => await cloneOf(driver, workshop, frozen, `two-${name}`)),
  );
  const machines = await Promise.all(
    clones.map(async ({ spec, options }) => await driver.restore(spec, options, async () => {})),
  );
  await withAgents(machines, async ([a, b]) => {
    assert(a !== undefined && b !== undefined);
    for (const agent of [a, b]) {
      assert.equal(await inGuest(agent, 'cat /root/disk /run/memory'), 'on disk\nin memory');
    }
    await inGuest(a, 'echo a > /run/memory; echo a > /root/disk; echo a > /root/new; sync');
    assert.equal(await inGuest(b, 'cat /root/disk /run/memory; ls /root'), 'on disk\nin memory\ndisk');
    for (const { handles } of machines) {
      const { Pss, Rss } = await memoryOf(handles.pid);
      assert(Pss !== undefined && Rss !== undefined && Pss < Rss * 0.85, `Pss ${Pss}, Rss ${Rss}`);
    }
  });
  assert.deepEqual(await contents(), before);
}

async function cloneOfItsOwn({ driver, workshop, frozen }: Given): Promise<void> {
  const rootBytes = frozen.rootBytes + 1024 * MIB;
  const { spec, options, transferPath } = await cloneOf(driver, workshop, frozen, 'own', {
    rootBytes,
    spec: { network: networkOf(driver, 77) },
    options: { grownDisks: [{ id: 'root', sizeBytes: rootBytes }] },
  });
  await fillDisk(transferPath);
  const machine = await driver.restore(spec, options, async () => {});
  await withAgents([machine], async ([agent]) => {
    assert(agent !== undefined);
    // The change is announced to the guest, whose kernel takes it up on its own.
    await inGuest(agent, `while [ $(cat /sys/block/vda/size) != ${rootBytes / 512} ]; do sleep 0.05; done`);
    await agent.mount({
      device: '/dev/vdb',
      type: 'squashfs',
      target: '/root/repo',
      readOnly: true,
      label: 'r',
    });
    assert.equal(await inGuest(agent, 'cat /root/repo/file'), 'of the host');
    if (!hasNetwork(driver)) return;
    await agent.configure({
      hostname: 'clone',
      files: [],
      clockNs: 0n,
      entropy: new Uint8Array(),
      address: '10.99.77.5/24',
      gateway: '',
      handOverInit: false,
      isProvisional: false,
      mac: '',
      bootId: '',
      machineId: '',
      rootDiskBytes: 0,
    });
    // Nothing listens there, but who answers is found out first.
    await inGuest(agent, 'bash -c "exec 3<>/dev/tcp/10.99.77.1/9" 2>&1 || true');
    assert.match(await inGuest(agent, 'cat /proc/net/arp'), /^10\.99\.77\.1 +0x1 +0x2 /m);
  });
}

async function fillDisk(path: string): Promise<void> {
  const tree = `${path}.tree`;
  await mkdir(tree);
  await writeFile(join(tree, 'file'), 'of the host\n');
  await run('mksquashfs', [tree, `${path}.squashfs`, '-quiet', '-no-progress', '-comp', 'lz4']);
  await run('dd', [`if=${path}.squashfs`, `of=${path}`, 'conv=notrunc', 'status=none']);
}

const mustNotStart = async (): Promise<never> => assert.fail('a process was started');

async function otherShapes({ driver, workshop, frozen }: Given): Promise<void> {
  const { spec, options } = await cloneOf(driver, workshop, frozen, 'shape');
  const others: readonly Partial<MachineSpec>[] = [
    { memoryMib: spec.memoryMib * 2 },
    { vcpus: spec.vcpus + 1 },
    { disks: spec.disks.slice(0, 1) },
    ...(hasNetwork(driver) ? [{ network: { kind: 'none' } } as const] : []),
  ];
  for (const other of others) {
    const restoring = driver.restore({ ...spec, ...other }, options, mustNotStart);
    await assert.rejects(restoring, { code: 'unsupported' }, JSON.stringify(other));
  }
  const digests = { ...options.digests, kernel: 'another' };
  await assert.rejects(
    driver.restore(spec, { ...options, digests }, mustNotStart),
    /kernel: another, not kernel of/,
  );
  // A host where the driver, its program or its CPU have changed since: every entry counts, under its name.
  for (const name of Object.keys(options.shape)) {
    const shape = { ...options.shape, [name]: 'another' };
    const restoring = driver.restore(spec, { ...options, shape }, mustNotStart);
    await assert.rejects(restoring, (error: Error) => error.message.includes(`${name}: `));
  }
}

async function damagedFiles({ driver, workshop, frozen }: Given): Promise<void> {
  const { spec, options } = await cloneOf(driver, workshop, frozen, 'damaged');
  const { state } = options;
  const copyOf = async (name: string): Promise<string> => {
    const copy = join(workshop.dir, name);
    await run('cp', [state.path, copy]);
    return copy;
  };
  const flipped = await copyOf('flipped');
  await using file = await open(flipped, 'r+');
  const at = Math.floor(state.sizeBytes / 2);
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
  await file.write(Buffer.of((buffer[0] ?? 0) ^ 1), 0, 1, at);
  const short = await copyOf('short');
  await truncate(short, state.sizeBytes - 1);
  for (const path of [flipped, short, join(workshop.dir, 'missing')]) {
    const restoring = driver.restore(spec, { ...options, state: { ...state, path } }, mustNotStart);
    await assert.rejects(restoring, { code: 'verify_failed' }, path);
  }
  const memory = join(workshop.dir, 'short-memory');
  await writeFile(memory, 'x');
  for (const path of [memory, `${memory}-missing`]) {
    const changed: MachineSpec = { ...spec, memory: { kind: 'file', path } };
    await assert.rejects(driver.restore(changed, options, mustNotStart), { code: 'verify_failed' }, path);
  }
}

async function cancelledRestores({ driver, workshop, frozen }: Given): Promise<void> {
  const { spec, options } = await cloneOf(driver, workshop, frozen, 'cancelled');
  const signal = AbortSignal.abort();
  await assert.rejects(driver.restore(spec, { ...options, signal }, mustNotStart), { code: 'cancelled' });
  for (const delayMs of [0, 5, 15, 25]) {
    const abort = new AbortController();
    let handles: MachineHandles | undefined;
    const restoring = driver.restore(spec, { ...options, signal: abort.signal }, async (given) => {
      handles = given;
      if (delayMs === 0) abort.abort();
      else setTimeout(() => abort.abort(), delayMs);
    });
    const machine = await restoring.catch((error: unknown): undefined => {
      assert.equal((error as { code?: string }).code, 'cancelled', String(error));
    });
    // It may have been quicker than the later ones, never than the first.
    if (delayMs === 0) assert.equal(machine, undefined);
    await machine?.kill();
    assert(handles !== undefined && !isSameProcess(handles), `${delayMs} ms`);
  }
  const refused = driver.restore(spec, options, async () => {
    throw new Error('the handles cannot be written');
  });
  await assert.rejects(refused, /cannot be written/);
}
