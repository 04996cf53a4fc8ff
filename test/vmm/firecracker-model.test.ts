/** The model of Firecracker is as strict as what it stands for; no guest runs here. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRunner } from '../../src/host/runner.ts';
import { processIdentity, isSameProcess } from '../../src/host/proc.ts';
import type { MachineHandles } from '../../src/vmm/driver.ts';
import { type ApiRequest, callApi, NotListening } from '../../src/vmm/firecracker/api.ts';
import { bootRequests } from '../../src/vmm/firecracker/config.ts';
import { createFirecrackerDriver } from '../../src/vmm/firecracker/driver.ts';
import { inspectFirecracker } from '../../src/vmm/firecracker/program.ts';
import { installModel } from './firecracker/model.ts';

const dir = await mkdtemp(join(tmpdir(), 'fc-strict-'));
const program = await installModel(dir);
const socketPath = join(dir, 'api.sock');
let child: ChildProcess;

before(async () => {
  child = spawn(program, ['--api-sock', socketPath, '--id', 'x'], { cwd: dir, stdio: 'ignore' });
  for (;;) {
    try {
      await callApi(socketPath, { method: 'GET', path: '/' });
      return;
    } catch (error) {
      if (!(error instanceof NotListening)) throw error;
    }
    await sleep(20);
  }
});
after(async () => {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  await rm(dir, { recursive: true });
});

async function refused(request: ApiRequest, why: RegExp): Promise<void> {
  const error = { code: 'vmm_failed', message: why };
  await assert.rejects(callApi(socketPath, request), error, JSON.stringify(request));
}

const machine = { vcpu_count: 1, mem_size_mib: 128 };

test('paths, fields, types, ranges and variants that the definition does not have are refused', async () => {
  const put = (path: string, body: Record<string, unknown>): ApiRequest => ({ method: 'PUT', path, body });
  await refused(put('/machine', machine), /Invalid request method and\/or path: PUT \/machine/);
  await refused({ method: 'PATCH', path: '/vsock', body: {} }, /Invalid request method/);
  await refused(put('/machine-config', { ...machine, cpus: 1 }), /unknown field `cpus`/);
  await refused(put('/machine-config', { vcpu_count: 1 }), /missing field `mem_size_mib`/);
  await refused(put('/machine-config', { ...machine, vcpu_count: 33 }), /vcpu_count is 33/);
  await refused(put('/machine-config', { ...machine, vcpu_count: '1' }), /vcpu_count is no integer/);
  await refused(put('/machine-config', { ...machine, smt: 'no' }), /smt is no boolean/);
  await refused(put('/vsock', { guest_cid: 2, uds_path: 'v' }), /guest_cid is 2/);
  await refused(put('/actions', { action_type: 'Start' }), /unknown variant `Start`/);
  const drive = { drive_id: 'a-b', is_root_device: false, path_on_host: '/nowhere' };
  await refused(put('/drives/a-b', drive), /alphanumeric/);
  await refused(put('/drives/c', drive), /does not match/);
  await refused(put('/drives/d', { ...drive, drive_id: 'd' }), /backing file/);
});

test('what is not legal before the guest runs is refused, and a load after something was configured', async () => {
  for (const state of ['Paused', 'Resumed']) {
    await refused({ method: 'PATCH', path: '/vm', body: { state } }, /not supported before starting/);
  }
  const files = { snapshot_path: 's', mem_file_path: 'm' };
  await refused({ method: 'PUT', path: '/snapshot/create', body: files }, /not supported before starting/);
  await refused(
    { method: 'PUT', path: '/actions', body: { action_type: 'InstanceStart' } },
    /without kernel/,
  );
  assert.equal(
    await callApi(socketPath, { method: 'PUT', path: '/machine-config', body: machine }),
    undefined,
  );
  await refused({ method: 'PUT', path: '/snapshot/load', body: files }, /not allowed after configuring/);
});

test('every request of the driver but the last is taken', async () => {
  const disk = join(dir, 'disk-root');
  await writeFile(disk, '');
  const requests = bootRequests({
    ...{ name: 'x', vcpus: 2, memoryMib: 64, memory: { kind: 'anonymous' }, network: { kind: 'none' } },
    platform: { accelerator: 'kvm', machine: 'firecracker', transport: 'mmio', vmmVersion: '' },
    ...{ kernelPath: disk, initramfsPath: disk, socketDir: dir, consoleLogPath: disk, vmmLogPath: disk },
    disks: [{ id: 'root', path: disk, format: 'raw', readOnly: false }],
  });
  for (const request of requests.slice(0, -1)) assert.equal(await callApi(socketPath, request), undefined);
  assert.equal(requests.at(-1)?.path, '/actions');
});

test('a process that was never started is not adopted, and does not stay', async () => {
  assert(child.pid !== undefined);
  const identity = processIdentity(child.pid);
  assert(identity !== undefined);
  const driver = createFirecrackerDriver({ runner: createRunner(), firecrackerPath: program });
  const channelSocketPath = join(dir, 'vsock.sock');
  const handles: MachineHandles = {
    ...{ driver: 'firecracker', ...identity, argv: [], channelSocketPath },
    controlSocketPath: socketPath,
  };
  assert.equal(await driver.adopt({ ...handles, driver: 'qemu' }), undefined);
  assert.equal(isSameProcess(identity), true);
  assert.equal(await driver.adopt(handles), undefined);
  assert.equal(isSameProcess(identity), false);
});

test('it says its version as Firecracker does, and knows its flags', async () => {
  assert.equal(await inspectFirecracker(createRunner(), program, new AbortController().signal), '1.17.0');
  const unknown = spawn(program, ['--api-socket', socketPath], { stdio: 'ignore' });
  assert.deepEqual(await once(unknown, 'exit'), [153, null]);
});
