import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { SaveableMachine, writeFacts } from '../../../test/helpers/saveable-machine.ts';
import { DoctorHome } from '../../../test/helpers/doctor-home.ts';
import type { VmRecord } from '../../core/model/vm.ts';
import { newId } from '../../host/ids.ts';
import { vmRuntimeDir } from '../../host/paths.ts';
import { processIdentity } from '../../host/proc.ts';
import { createRunner } from '../../host/runner.ts';
import { saveMemory } from '../services/vms/saved-memory.ts';
import { vmFiles, writeHandles } from '../vm-files.ts';
import { recordOf, writeVmRecord } from '../vm-record-file.ts';

const NEVER = new AbortController().signal;

function update(home: DoctorHome, vm: VmRecord, change: Partial<VmRecord>): void {
  home.withStore((store) => store.upsertVm({ ...vm, ...change }));
}

/** A process that looks like the VMM of a VM: its arguments name a socket. */
async function vmmOf(home: DoctorHome, id: string, context: TestContext): Promise<ChildProcess> {
  const argv0 = join(vmRuntimeDir(home.paths, id), 'qmp.sock');
  const child = spawn('sleep', ['1000'], { argv0, stdio: 'ignore' });
  context.after(() => child.kill('SIGKILL'));
  await once(child, 'spawn');
  return child;
}

async function handlesOf(home: DoctorHome, id: string, child: ChildProcess): Promise<void> {
  const identity = processIdentity(child.pid ?? 0);
  assert.ok(identity);
  const sockets = { controlSocketPath: '/run/qmp.sock', channelSocketPath: '/run/agent.sock' };
  await writeHandles(vmFiles(home.paths, id), { driver: 'qemu', ...identity, ...sockets, argv: [] });
}

async function ended(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

test('nothing yet, and one stopped VM, are fine', async () => {
  using home = new DoctorHome();
  const ids = [
    'processes',
    'directories',
    'disks',
    'handles',
    'orphan-processes',
    'sockets',
    'saved',
    'errors',
    'unfinished',
  ];
  for (const id of ids) assert.match(await home.says(`vms.${id}`), /^ok: /, id);
  await home.populate();
  for (const id of ids) assert.match(await home.says(`vms.${id}`), /^ok: /, id);
  assert.equal(await home.says('vms.processes'), 'ok: 1 VM, 0 running');
});

test('a database that cannot be read is not taken for an empty one', async () => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  writeFileSync(home.paths.stateDb, 'not a database at all, and long enough to be looked at as one');
  for (const id of [
    'vms.processes',
    'vms.directories',
    'vms.sockets',
    'vms.orphan-processes',
    'images.files',
  ]) {
    assert.match(await home.says(id), /^info: not looked at/, id);
  }
  mkdirSync(vmRuntimeDir(home.paths, vm.id), { mode: 0o700 });
  assert.deepEqual(await home.fix(), []);
});

test('vms.saved', async () => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  const says = async (): Promise<string> => await home.says('vms.saved');
  const files = vmFiles(home.paths, vm.id);
  update(home, vm, { state: 'saved' });
  assert.match(await says(), /^warning: VM "dev" is saved, and cannot go on: its memory is gone/);
  await writeFacts(files);
  const machine = new SaveableMachine();
  await machine.pause();
  await saveMemory(machine, { name: 'dev', memoryMib: 1, diskSizeBytes: 4096 }, files, createRunner(), NEVER);
  assert.match(await says(), /^ok: /);
  assert.equal(await home.says('vms.processes'), 'ok: 1 VM, 0 running, 1 saved');
  update(home, vm, { state: 'stopped' });
  assert.match(await says(), /^info: VM "dev" is stopped and has .*saved/);
  update(home, vm, { state: 'saved' });
  truncateSync(join(files.savedDir, 'manifest.json'));
  assert.match(await says(), /^warning: VM "dev" is saved, and cannot go on: .*manifest.json is not JSON/);
});

test('vms.processes', async (context) => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  const says = async (): Promise<string> => await home.says('vms.processes');
  update(home, vm, { state: 'running' });
  assert.match(
    await says(),
    /^info: VM "dev" is running in the database and has no process → as after a reboot/,
  );
  const child = await vmmOf(home, vm.id, context);
  await handlesOf(home, vm.id, child);
  assert.equal(await says(), 'ok: 1 VM, 1 running');
  update(home, vm, { state: 'stopped' });
  assert.match(
    await says(),
    new RegExp(`^warning: VM "dev" is stopped in the database, but .*pid ${child.pid}\\) → .* takes it over`),
  );
  update(home, vm, { state: 'error' });
  assert.match(await says(), /^warning: VM "dev" is error in the database, but .* → .* daemon ends it/);
  update(home, vm, { state: 'stopped' });
  // Handles that are lost do not hide it.
  rmSync(vmFiles(home.paths, vm.id).handlesFile);
  assert.match(await says(), new RegExp(`^warning: .*pid ${child.pid}\\) → .*, then kill ${child.pid}$`));
  await ended(child);
  assert.match(await says(), /^ok/);
});

test('vms.directories', async () => {
  using home = new DoctorHome();
  const { image, vm } = await home.populate();
  const says = async (): Promise<string> => await home.says('vms.directories');
  assert.equal(await says(), 'ok: 1, each with its row');
  const id = newId();
  await home.addDisk(image, id);
  assert.match(
    await says(),
    new RegExp(`^warning: .*${id} belongs to no row of the database → look whether`),
  );
  const record = recordOf({ ...vm, id, name: 'lost' }, null);
  assert.ok(record);
  await writeVmRecord(vmFiles(home.paths, id).dir, record);
  assert.match(
    await says(),
    new RegExp(`^failure: VM "lost" in .*${id} has lost its row .*→ banger state rebuild$`),
  );
  writeFileSync(join(vmFiles(home.paths, id).dir, 'vm.json'), 'damaged');
  assert.match(await says(), /^failure: a VM in .* has lost its row/);
  rmSync(vmFiles(home.paths, id).dir, { recursive: true });
  mkdirSync(join(home.paths.vmsDir, 'my notes'));
  assert.match(await says(), /^info: .*my notes is none of banger's/);
});

test('vms.directories: all rows are lost with the database', async () => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  const record = recordOf(vm, null);
  assert.ok(record);
  await writeVmRecord(vmFiles(home.paths, vm.id).dir, record);
  for (const suffix of ['', '-wal', '-shm']) rmSync(home.paths.stateDb + suffix, { force: true });
  assert.match(await home.says('vms.directories'), /^failure: VM "dev" .* has lost its row/);
});

test('vms.disks', async () => {
  using home = new DoctorHome();
  const { image, vm } = await home.populate();
  const { rootDisk, dir } = vmFiles(home.paths, vm.id);
  const says = async (): Promise<string> => await home.says('vms.disks');
  assert.equal(await says(), 'ok: 1 VMs with a disk');
  home.withStore((store) =>
    store.upsertImage({ ...image, rootfsPath: join(image.artifactDir, 'manifest.json') }),
  );
  assert.match(
    await says(),
    /^failure: VM "dev": its disk stands on .*rootfs\.ext4, but its image is .*manifest\.json/,
  );
  home.withStore((store) => store.upsertImage(image));
  rmSync(image.rootfsPath);
  assert.match(await says(), /^failure: VM "dev": the image its disk stands on is missing: .*rootfs\.ext4/);
  truncateSync(rootDisk, 20);
  assert.match(await says(), /^failure: .*is no qcow2 image any more/);
  rmSync(rootDisk);
  assert.match(await says(), /^failure: .*its disk .*root\.qcow2 is gone; it cannot be started without/);
  update(home, vm, { state: 'error' });
  assert.match(await says(), /^failure: .* is gone; a start would make an empty disk/);
  rmSync(dir, { recursive: true });
  assert.match(await says(), /^failure: .*its directory .* is gone.*→ put it back, or: banger vm delete dev/);
});

test('vms.disks: a VM that never ran has none', async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  await home.addVm(await home.addImage(), { state: 'created' });
  assert.match(await home.says('vms.disks'), /^ok/);
});

test('vms.handles', async (context) => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  const child = await vmmOf(home, vm.id, context);
  await handlesOf(home, vm.id, child);
  await ended(child);
  assert.match(await home.says('vms.handles'), /^info: VM "dev" is stopped and still has .*handles\.json/);
  writeFileSync(vmFiles(home.paths, vm.id).handlesFile, '{}');
  assert.match(await home.says('vms.handles'), /^warning: VM "dev": .*handles\.json cannot be read/);
  rmSync(vmFiles(home.paths, vm.id).handlesFile);
  assert.match(await home.says('vms.handles'), /^ok/);
});

test('vms.orphan-processes', async (context) => {
  using home = new DoctorHome();
  const { image, vm } = await home.populate();
  const says = async (): Promise<string> => await home.says('vms.orphan-processes');
  const own = await vmmOf(home, vm.id, context);
  assert.match(await says(), /^ok/);
  await ended(own);
  const id = newId();
  const bySocket = await vmmOf(home, id, context);
  assert.match(
    await says(),
    new RegExp(`^warning: process ${bySocket.pid} works in .*${id.slice(0, 12)}, and no VM`),
  );
  await ended(bySocket);
  const byHandles = spawn('sleep', ['1000'], { stdio: 'ignore' });
  context.after(() => byHandles.kill('SIGKILL'));
  await once(byHandles, 'spawn');
  await home.addDisk(image, id);
  await handlesOf(home, id, byHandles);
  assert.match(await says(), new RegExp(`^warning: process ${byHandles.pid} works in .*${id}, `));
  writeFileSync(join(home.paths.vmsDir, id, 'vm.json'), '{}');
  assert.match(
    await says(),
    new RegExp(`^warning: process ${byHandles.pid} is that of a VM .* → banger state rebuild$`),
  );
  await ended(byHandles);
  assert.match(await says(), /^ok/);
});

test('vms.sockets', async (context) => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  const says = async (): Promise<string> => await home.says('vms.sockets');
  mkdirSync(vmRuntimeDir(home.paths, vm.id), { mode: 0o700 });
  assert.match(await says(), /^ok/);
  const id = newId();
  const dir = vmRuntimeDir(home.paths, id);
  mkdirSync(dir, { mode: 0o700 });
  assert.match(await says(), new RegExp(`^warning: ${dir} belongs to no VM .*\\[fixable\\]$`));
  // Somebody works there: nothing of it is removed.
  const server = createServer(() => undefined).listen(join(dir, 'agent.sock'));
  context.after(() => server.close());
  await once(server, 'listening');
  assert.match(await says(), /^warning: .* → as "processes without a VM" says of the one that uses it$/);
  assert.deepEqual(await home.fix(false, 'vms.sockets'), []);
  await new Promise((resolve) => server.close(resolve));
  const child = await vmmOf(home, id, context);
  assert.match(await says(), /^warning: .* → as "processes without a VM" says of the one that uses it$/);
  assert.deepEqual(await home.fix(false, 'vms.sockets'), []);
  await ended(child);
  writeFileSync(join(dir, 'left'), '');
  assert.deepEqual(await home.fix(false, 'vms.sockets'), [
    { id: 'vms.sockets', what: `rm -r ${dir}`, done: true, error: null },
  ]);
  assert.ok(!existsSync(dir));
  assert.ok(existsSync(vmRuntimeDir(home.paths, vm.id)));
  assert.match(await says(), /^ok/);
});

test('vms.errors', async () => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  update(home, vm, { state: 'error', runtime: { lastError: 'QEMU ended' } });
  assert.match(await home.says('vms.errors'), /^warning: VM "dev": QEMU ended → banger vm logs dev/);
  update(home, vm, { state: 'error', runtime: {} });
  assert.match(await home.says('vms.errors'), /^warning: VM "dev": no reason was recorded/);
});

test('vms.unfinished', async () => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  update(home, vm, { runtime: { pending: 'create' } });
  assert.match(await home.says('vms.unfinished'), /^info: the creation of VM "dev" was interrupted/);
  update(home, vm, { runtime: { pending: 'delete' } });
  assert.match(await home.says('vms.unfinished'), /^info: the deletion of VM "dev" was interrupted/);
  update(home, vm, { runtime: {}, spec: { ...vm.spec, ephemeral: true } });
  assert.match(await home.says('vms.unfinished'), /^info: VM "dev" was made with --rm and is still there/);
});
