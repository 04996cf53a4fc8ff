/** With the real QEMU, but no guest: what happens before one runs. Guests are booted in test/vmm. */

import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, rm, stat, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { isSameProcess } from '../../host/proc.ts';
import { type CommandRunner, createRunner } from '../../host/runner.ts';
import type { MachineHandles, MachineSpec } from '../driver.ts';
import { createQemuDriver } from './driver.ts';

const dir = await mkdtemp(join(tmpdir(), 'qemu-driver-'));
after(() => rm(dir, { recursive: true }));
const logPath = join(dir, 'vmm.log');
const never = new AbortController().signal;
const driver = createQemuDriver({ runner: createRunner(), tscToolPath: '/nonexistent/tsc-khz' });

function specOf(changes: Partial<MachineSpec> = {}): MachineSpec {
  return {
    name: 'dev',
    platform: { accelerator: 'tcg', machine: 'q35', transport: 'pci', vmmVersion: '7.2.22' },
    vcpus: 1,
    memoryMib: 64,
    memory: { kind: 'anonymous' },
    kernelPath: join(dir, 'missing-vmlinux'),
    initramfsPath: join(dir, 'missing.cpio'),
    disks: [],
    network: { kind: 'none' },
    socketDir: dir,
    consoleLogPath: join(dir, 'console.log'),
    vmmLogPath: logPath,
    ...changes,
  };
}

/** The error of a machine that ends at its start, wherever it shows, and the handles that were written down. */
async function deathOf(spec: MachineSpec): Promise<{ error: Error; handles: MachineHandles | undefined }> {
  let handles: MachineHandles | undefined;
  try {
    const machine = await driver.launch(spec, async (given) => {
      handles = given;
    });
    await machine.connectChannel(never);
  } catch (error) {
    assert(error instanceof Error);
    return { error, handles };
  }
  throw new Error('it lives');
}

test('a QEMU that ends at its start is quoted: no kernel, no disk, too much memory', async () => {
  const disk = { id: 'root', path: join(dir, 'no, such "disk"'), format: 'qcow2', readOnly: false } as const;
  const cases: readonly (readonly [Partial<MachineSpec>, RegExp])[] = [
    [{}, /missing-vmlinux/],
    [{ disks: [disk] }, /no, such "disk"': No such file or directory/],
    [{ memoryMib: 2 ** 40 }, /memory|RAM/i],
  ];
  for (const [changes, words] of cases) {
    const { error, handles } = await deathOf(specOf(changes));
    assert.equal('code' in error && error.code, 'vmm_failed', error.message);
    assert.match(error.message, words);
    assert(handles === undefined || !isSameProcess(handles));
  }
});

test('handles are written down before anything else, and name the process', async () => {
  let written = false;
  const launching = driver.launch(specOf(), async (handles) => {
    assert.equal(handles.driver, 'qemu');
    assert.equal(handles.hostBootId, (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim());
    assert.deepEqual(handles.argv, await driver.argv(specOf()));
    assert.equal(handles.channelSocketPath, join(dir, 'agent.sock'));
    assert.equal(handles.controlSocketPath, join(dir, 'qmp.sock'));
    written = true;
  });
  const machine = await launching.catch((error: unknown) => assert.match(String(error), /missing-vmlinux/));
  assert.equal(written, true);
  await machine?.kill();
});

test('when the handles cannot be written down, the process does not stay', async () => {
  let started: MachineHandles | undefined;
  const launching = driver.launch(specOf(), async (handles) => {
    started = handles;
    throw new Error('disk full');
  });
  await assert.rejects(launching, /disk full/);
  assert(started !== undefined && started.pid > 0);
  assert(!isSameProcess(started), 'it has ended, whether its parent has heard of it or not');
});

test('QEMU missing, a socket path too long, a log that cannot be written', async () => {
  const runner = createRunner();
  const missing = createQemuDriver({ runner, qemuPath: '/nonexistent/qemu', tscToolPath: '/x' });
  await assert.rejects(
    missing.launch(specOf(), async () => {}),
    { code: 'dependency_missing' },
  );
  const long = specOf({ socketDir: join(dir, 'x'.repeat(100)) });
  await assert.rejects(
    driver.launch(long, async () => assert.fail()),
    { code: 'bad_request' },
  );
  for (const path of ['consoleLogPath', 'vmmLogPath']) {
    const spec = specOf({ [path]: join(dir, 'no', 'directory') });
    await assert.rejects(
      driver.launch(spec, async () => assert.fail()),
      { code: 'io_error' },
    );
  }
});

test('the rate is asked for once, where it is needed, and without it a microvm is refused', async () => {
  let asked = 0;
  const runner: CommandRunner = {
    run: async (argv) => {
      assert.deepEqual(argv, ['/tool']);
      asked += 1;
      return { stdout: Buffer.from('2000000\n'), stderr: '', status: 0 };
    },
  };
  const it = createQemuDriver({ runner, tscToolPath: '/tool' });
  const microvm = specOf({
    platform: { accelerator: 'tcg', machine: 'microvm', transport: 'mmio', vmmVersion: '7.2.22' },
  });
  await it.argv(specOf());
  assert.equal(asked, 0);
  await Promise.all([it.argv(microvm), it.argv(microvm)]);
  assert.equal(asked, 1);
  assert.match((await it.argv(microvm)).join(' '), /tsc_early_khz=2000000 tsc=reliable/);
  await assert.rejects(driver.argv(microvm), { code: 'unsupported' });
});

test('a shape names this very build of QEMU, and notices when that is replaced under a running daemon', async () => {
  const qemuPath = join(dir, 'qemu');
  await copyFile('/bin/sh', qemuPath);
  let asked = 0;
  const runner: CommandRunner = {
    run: async () => {
      asked += 1;
      return { stdout: Buffer.from(`QEMU emulator version 7.2.${asked}\nmore\n`), stderr: '', status: 0 };
    },
  };
  const it = createQemuDriver({ runner, qemuPath, tscToolPath: '/x' });
  const digests = { kernel: 'k', initramfs: 'i' };
  const first = await it.shape(specOf(), digests, never);
  assert.equal(first['VMM'], 'QEMU emulator version 7.2.1');
  assert.deepEqual(await it.shape(specOf(), digests, never), first);
  assert.equal(asked, 1);

  await utimes(qemuPath, 1, 1);
  const second = await it.shape(specOf(), digests, never);
  assert.equal(second['VMM'], 'QEMU emulator version 7.2.2');
  assert.notEqual(second['VMM program'], first['VMM program']);

  const kvm = specOf({
    platform: { accelerator: 'kvm', machine: 'q35', transport: 'pci', vmmVersion: '7.2.22' },
  });
  assert.match((await it.shape(kvm, digests, never))['host CPU'] ?? '', /flags/);
  await rm(qemuPath);
  await assert.rejects(it.shape(specOf(), digests, never), { code: 'dependency_missing' });
});

test('a memory file is not for a machine that boots', async () => {
  const wrong = driver.launch(specOf({ memory: { kind: 'file', path: '/memory' } }), async () => {});
  await assert.rejects(wrong, { name: 'AssertionError' });
});

test('handles of another driver, of a dead process or of another one with its pid are not adopted', async () => {
  const handles: MachineHandles = {
    driver: 'qemu',
    pid: process.pid,
    pidStartTicks: 1,
    hostBootId: 'x',
    controlSocketPath: join(dir, 'qmp.sock'),
    channelSocketPath: join(dir, 'agent.sock'),
    argv: [],
  };
  assert.equal(await driver.adopt(handles), undefined);
  assert.equal(await driver.adopt({ ...handles, driver: 'firecracker' }), undefined);
  assert.equal(await driver.adopt({ ...handles, pid: 2 ** 22 + 1 }), undefined);
});

test('the logs are readable by nobody else', async () => {
  await rm(logPath, { force: true });
  await rm(join(dir, 'console.log'), { force: true });
  await deathOf(specOf());
  for (const name of ['vmm.log', 'console.log']) {
    assert.equal((await stat(join(dir, name))).mode & 0o777, 0o600, name);
  }
});
