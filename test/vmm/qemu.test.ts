/** Real machines with real guests: booted, found again, ended. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentClient } from '../../src/guest/agent-client.ts';
import type { MachineHandles, MachineSpec, Platform } from '../../src/vmm/driver.ts';
import {
  connectAgent,
  EMULATED,
  makeSparseFile,
  newDriver,
  openWorkshop,
  run,
  specIn,
  TSC_TOOL,
  type Workshop,
} from './fixture.ts';

const GIB = 1024 ** 3;
const workshop = await openWorkshop();
after(() => workshop[Symbol.asyncDispose]());
const driver = newDriver();
const [MICROVM, Q35] = EMULATED as readonly [Platform, Platform];

async function withDisks(
  place: Workshop,
  name: string,
  platform: Platform,
): Promise<{ spec: MachineSpec; transferPath: string }> {
  const [base, rootPath, transferPath] = ['base.ext4', 'root.qcow2', 'transfer.img'].map((file) =>
    join(place.dir, `${name}-${file}`),
  ) as [string, string, string];
  await place.makeRootDisk(base);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', rootPath, '4G']);
  await makeSparseFile(transferPath, 64 * GIB);
  const spec = await specIn(place, name, platform, {
    name: 'odd, name="x"',
    vcpus: 2,
    disks: [
      { id: 'root', path: rootPath, format: 'qcow2', readOnly: false },
      { id: 'transfer', path: transferPath, format: 'raw', readOnly: true },
    ],
    network: {
      kind: 'user',
      outbound: false,
      mac: '52:54:00:12:34:56',
      guestIp: '10.77.1.5',
      gatewayIp: '10.77.1.1',
      dnsIp: '10.77.1.254',
    },
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

for (const platform of EMULATED) {
  test(`${platform.machine}: odd paths, disks in order, host content after boot, power-off`, async () => {
    await using place = await openWorkshop(`, "odd"=,,path é`);
    const { spec, transferPath } = await withDisks(place, 'vm', platform);
    const machine = await driver.launch(spec, async () => {});
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
  });
}

/** Runs a daemon of its own that launches the machine, says so and waits to be killed. */
async function daemonThatLaunches(
  spec: MachineSpec,
): Promise<{ daemon: ChildProcess; handles: MachineHandles }> {
  const importOf = (path: string): string =>
    JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href);
  const script = `
    const { createRunner } = await import(${importOf('host/runner.ts')});
    const { createQemuDriver } = await import(${importOf('vmm/qemu/driver.ts')});
    const driver = createQemuDriver({ runner: createRunner(), tscToolPath: ${JSON.stringify(TSC_TOOL)} });
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

test('a machine outlives the SIGKILL of its daemon and is adopted, twice; its own SIGKILL is noticed', async () => {
  const { daemon, handles } = await daemonThatLaunches(await specIn(workshop, 'kept', MICROVM));
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
});

for (const platform of EMULATED) {
  test(`${platform.machine}: a paused machine stands still, across an adoption, and goes on where it stood`, async () => {
    const first = await driver.launch(
      await specIn(workshop, `paused-${platform.machine}`, platform),
      async () => {},
    );
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
  });
}

test('a guest without disks panics on demand: the end is the process’s end, with status 0', async () => {
  const spec = await specIn(workshop, 'panic', Q35, {
    initramfsPath: await emptyInitramfs(workshop),
  });
  const machine = await driver.launch(spec, async () => {});
  const exit = await machine.exited;
  assert.deepEqual(exit, { exitCode: 0, signal: null });
  assert.match(await readFile(spec.consoleLogPath, 'utf8'), /Kernel panic/);
  await machine.kill();
});

async function emptyInitramfs(place: Workshop): Promise<string> {
  const path = join(place.dir, 'empty.cpio');
  await writeFile(path, '');
  return path;
}

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
