/** What every driver must keep of machines that boot: found again, stood still, ended. Real guests. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentClient } from '../../../src/guest/agent-client.ts';
import { createRootDisk } from '../../../src/images/disk.ts';
import type { MachineHandles, MachineSpec } from '../../../src/vmm/driver.ts';
import { connectAgent, makeSparseFile, openWorkshop, run, specIn, type Workshop } from '../fixture.ts';
import { networkOf, rootFormat } from './guest.ts';
import type { Subject } from './subject.ts';

const GIB = 1024 ** 3;
const never = new AbortController().signal;

type Part = 'disks' | 'adoption' | 'pause' | 'panic';
const PARTS: readonly Part[] = ['disks', 'adoption', 'pause', 'panic'];

/** @param parts fewer where another subject with the same driver keeps the others */
export function machineContract(subject: Subject, parts: readonly Part[] = PARTS): void {
  describe(`machines: ${subject.title}`, () => {
    let workshop: Workshop;
    before(async () => {
      workshop = await openWorkshop('', subject.driver.capabilities.channel);
    });
    after(() => workshop[Symbol.asyncDispose]());
    const when = (part: Part) => ({ skip: parts.includes(part) ? false : 'kept by another platform' });

    test('odd paths, disks in order, host content after boot, power-off', when('disks'), () =>
      disks(subject),
    );
    test(
      'a machine outlives the SIGKILL of its daemon and is adopted, twice; its own SIGKILL is noticed',
      when('adoption'),
      () => adoption(subject, workshop),
    );
    test('a paused machine stands still, across an adoption, and goes on where it stood', when('pause'), () =>
      pausing(subject, workshop),
    );
    test(
      'a guest without disks panics on demand: the end is the process’s end, with status 0',
      when('panic'),
      () => panic(subject, workshop),
    );
  });
}

async function withDisks(
  place: Workshop,
  name: string,
  { driver, platform }: Subject,
): Promise<{ spec: MachineSpec; transferPath: string }> {
  const [base, rootPath, transferPath] = ['base.ext4', 'root', 'transfer.img'].map((file) =>
    join(place.dir, `${name}-${file}`),
  ) as [string, string, string];
  await place.makeRootDisk(base);
  const format = rootFormat(driver);
  await createRootDisk({
    ...{ basePath: base, baseFormat: 'raw', sizeBytes: 4 * GIB },
    ...{ path: rootPath, format, signal: never },
  });
  await makeSparseFile(transferPath, 64 * GIB);
  const spec = await specIn(place, name, platform, {
    name: 'odd, name="x"',
    vcpus: 2,
    disks: [
      { id: 'root', path: rootPath, format, readOnly: false },
      { id: 'transfer', path: transferPath, format: 'raw', readOnly: true },
    ],
    network: networkOf(driver, 77),
  });
  return { spec, transferPath };
}

const mountRequest = {
  device: '/dev/vdb',
  type: 'squashfs',
  target: '/repo',
  readOnly: false,
  label: 'repo',
} as const;

/** Which step of starting a program in a directory fails: there is no program in this guest. */
async function startIn(agent: AgentClient, cwd: string): Promise<string> {
  const result = await agent.exec({ argv: ['/nothing'], cwd }).result;
  assert(result.kind === 'failed');
  return result.text.split(/\W/, 1)[0] ?? '';
}

/** The host fills the disk of a running guest: content only, the file's size stays. */
async function writeSquashfs(path: string): Promise<void> {
  const tree = `${path}.tree`;
  await mkdir(join(tree, 'from-the-host'), { recursive: true });
  await writeFile(join(tree, 'big'), Buffer.alloc(300_000, 'x'));
  await run('mksquashfs', [tree, `${path}.squashfs`, '-quiet', '-no-progress', '-comp', 'lz4']);
  await using file = await open(path, 'r+');
  await file.write(await readFile(`${path}.squashfs`), 0, null, 0);
}

async function disks(subject: Subject): Promise<void> {
  await using place = await openWorkshop(`, "odd"=,,path é`, subject.driver.capabilities.channel);
  const { spec, transferPath } = await withDisks(place, 'vm', subject);
  const machine = await subject.driver.launch(spec, async () => {});
  try {
    const agent = await connectAgent(machine);
    assert.equal(agent.hello.error, null);
    assert.equal(agent.hello.mounted, true);

    // Reads the disk while it is empty, so that the guest caches what is about to change.
    await assert.rejects(agent.mount(mountRequest));
    await writeSquashfs(transferPath);
    await agent.mount(mountRequest);
    assert.equal(await startIn(agent, '/repo/from-the-host'), 'spawn');
    assert.equal(await startIn(agent, '/repo/not-there'), 'chdir');

    await agent.powerOff(100);
    assert.deepEqual(await machine.exited, { exitCode: 0, signal: null });
    assert.equal(await readFile(spec.vmmLogPath, 'utf8'), '');
  } finally {
    await machine.kill();
  }
}

/** Runs a daemon of its own that launches the machine, says so and waits to be killed. */
async function daemonThatLaunches(
  { making }: Subject,
  spec: MachineSpec,
): Promise<{ daemon: ChildProcess; handles: MachineHandles }> {
  const importOf = (path: string): string =>
    JSON.stringify(new URL(`../../../src/${path}`, import.meta.url).href);
  const script = `
    const { createRunner } = await import(${importOf('host/runner.ts')});
    const { ${making.factory} } = await import(${importOf(making.module)});
    const driver = ${making.factory}({ runner: createRunner(), ...${JSON.stringify(making.options)} });
    const machine = await driver.launch(${JSON.stringify(spec)}, async () => {});
    console.log(JSON.stringify(machine.handles));
    await machine.connectChannel(AbortSignal.timeout(60_000));
    setInterval(() => {}, 1000);`;
  const daemon = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  assert(daemon.stdout !== null);
  const [line] = (await once(daemon.stdout, 'data')) as [Buffer];
  return { daemon, handles: JSON.parse(line.toString()) };
}

async function adoption(subject: Subject, workshop: Workshop): Promise<void> {
  const { driver, platform } = subject;
  const { daemon, handles } = await daemonThatLaunches(subject, await specIn(workshop, 'kept', platform));
  daemon.kill('SIGKILL');
  await once(daemon, 'exit');

  try {
    const first = await driver.adopt(handles);
    assert(first !== undefined, 'it outlives its daemon');
    const firstAgent = await connectAgent(first);
    firstAgent.close();
    first.release();

    const second = await driver.adopt(handles);
    assert(second !== undefined, 'release leaves it alone');
    const agent = await connectAgent(second);
    assert.equal(agent.hello.bootId, firstAgent.hello.bootId);
    process.kill(handles.pid, 'SIGKILL');
    assert.deepEqual(await second.exited, { exitCode: null, signal: null });
    await agent.closed;
    await second.kill();
    assert.equal(await driver.adopt(handles), undefined);
  } finally {
    const left = await driver.adopt(handles);
    await left?.kill();
  }
}

async function pausing({ driver, platform }: Subject, workshop: Workshop): Promise<void> {
  const first = await driver.launch(await specIn(workshop, 'paused', platform), async () => {});
  let machine = first;
  try {
    assert.equal(driver.capabilities.canPause, true);
    const agent = await connectAgent(first);
    assert.equal(await first.runState(), 'running');
    await first.pause();
    await first.pause();
    assert.equal(await first.runState(), 'paused');
    const answer = agent.health(undefined, 60_000);
    const silence = sleep(1000).then(() => 'silence');
    assert.equal(await Promise.race([answer, silence]), 'silence');
    await first.resume();
    await first.resume();
    assert.equal(await first.runState(), 'running');
    const { bootId } = await answer;

    await first.pause();
    agent.close();
    first.release();
    const adopted = await driver.adopt(first.handles);
    assert(adopted !== undefined);
    machine = adopted;
    assert.equal(await machine.runState(), 'paused');
    await machine.resume();
    assert.equal((await connectAgent(machine)).hello.bootId, bootId);
    await machine.pause();
    await machine.kill();
    await assert.rejects(machine.pause(), { code: 'vmm_failed' });
  } finally {
    await machine.kill();
  }
}

async function panic({ driver, platform }: Subject, workshop: Workshop): Promise<void> {
  const initramfsPath = join(workshop.dir, 'empty.cpio');
  await writeFile(initramfsPath, '');
  const spec = await specIn(workshop, 'panic', platform, { initramfsPath });
  const machine = await driver.launch(spec, async () => {});
  const exit = await machine.exited;
  assert.deepEqual(exit, { exitCode: 0, signal: null });
  assert.match(await readFile(spec.consoleLogPath, 'utf8'), /Kernel panic/);
  await machine.kill();
}
