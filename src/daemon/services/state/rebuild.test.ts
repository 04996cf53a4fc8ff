import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import { StateDirectory } from '../../../../test/helpers/state-directory.ts';
import { someImage, someVm, someWorkspace } from '../../../../test/helpers/store-records.ts';
import type { StateRebuilt } from '../../../api/results/state.ts';
import { acquireInstanceLock } from '../../../host/instance-lock.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import { openStore } from '../../../store/store.ts';
import { assertStateNotLost } from '../../lost-state.ts';
import type { OperationHandle } from '../../operations.ts';
import { rebuildState } from './rebuild.ts';

let dir: StateDirectory;
let paths: BangerPaths;
beforeEach(() => {
  dir = new StateDirectory();
  paths = dir.paths;
  dir.addKernel();
});
afterEach(() => dir[Symbol.dispose]());

const OPERATION: OperationHandle = {
  signal: new AbortController().signal,
  progress: () => undefined,
  about: () => undefined,
};

const rebuild = (dryRun = false, operation = OPERATION): Promise<StateRebuilt> =>
  rebuildState({ paths, version: 'test', missing: async () => ['asked'] }, { dryRun }, operation);

const id = (digit: string): string => digit.repeat(32);
const rows = () => {
  using store = openStore(paths.stateDb);
  return { images: store.listImages(), vms: store.listVms() };
};
const controlVersion = async (): Promise<number> => {
  using store = openStore(paths.stateDb);
  const read = store.read((database) => database.prepare('PRAGMA user_version').get()?.['user_version']);
  return Number(await read);
};
/** Every name and byte below the state directory. */
const fingerprint = (): string =>
  readdirSync(paths.stateDir, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => `${path} ${existsSync(path) ? tryRead(path) : ''}`)
    .join('\n');
const tryRead = (path: string): string => {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return 'directory';
  }
};

test('a lost database is made anew, and says the same of every VM as before', async () => {
  dir.addImage();
  const workspace = someWorkspace();
  await dir.addVm({ id: id('1'), name: 'one', workspace });
  await dir.addVm({ id: id('2'), name: 'two', guestIp: '172.16.0.9' });
  rmSync(join(paths.vmsDir, id('2'), 'root.qcow2'));
  const { added, skipped, restored } = await rebuild();
  assert.deepEqual(skipped, []);
  assert.deepEqual(
    added.map(({ kind, name, note }) => [kind, name, note]),
    [
      ['image', 'debian-bookworm', null],
      ['vm', 'one', null],
      ['vm', 'two', null],
    ],
  );
  assert.deepEqual(restored?.missing, ['asked']);
  assert.equal(restored?.previous, null);
  const { images, vms } = rows();
  assert.equal(images[0]?.rootfsPath, join(paths.imagesDir, 'debian-bookworm', 'rootfs.ext4'));
  assert.equal(images[0]?.kernelPath, join(paths.kernelsDir, 'cloud', 'vmlinux'));
  assert.deepEqual(
    vms.map((vm) => [vm.id, vm.name, vm.guestIp, vm.state, vm.workspace, vm.imageId]),
    [
      [id('1'), 'one', '172.16.0.2', 'stopped', workspace, images[0]?.id],
      [id('2'), 'two', '172.16.0.9', 'created', null, images[0]?.id],
    ],
  );
  assert.deepEqual(await rebuild(), { added: [], skipped: [], restored: null }, 'nothing is lost any more');
});

test('when no VM can be brought back, the daemon can start all the same, and leaves them alone', async () => {
  await dir.addVm({ id: id('1'), name: 'one' });
  const { added, skipped, restored } = await rebuild();
  assert.deepEqual([added, skipped.length], [[], 1]);
  assert.ok(restored);
  await assertStateNotLost(paths);
  assert.equal((await rebuild()).restored, null);
  dir.addImage();
  assert.equal((await rebuild()).added.length, 2, 'with its image it can');
});

test('without VMs nothing is made: the daemon makes its database itself', async () => {
  assert.deepEqual(await rebuild(), { added: [], skipped: [], restored: null });
  assert.ok(!existsSync(paths.stateDb));
});

test('the same directories give the same state, byte for byte', async () => {
  dir.addImage();
  await dir.addVm({ id: id('1'), name: 'one' });
  const first = await rebuild();
  rmSync(paths.stateDb);
  assert.equal((await rebuild()).restored?.digest, first.restored?.digest);
});

test('a dry run says the same and changes nothing, also beside a daemon', async () => {
  dir.addImage();
  await dir.addVm({ id: id('1'), name: 'one' });
  const before = fingerprint();
  const said = await rebuild(true);
  assert.equal(fingerprint(), before);
  assert.equal(said.restored, null);
  assert.deepEqual(said.added, (await rebuild()).added);
  await dir.addVm({ id: id('2'), name: 'two', guestIp: '172.16.0.3' });
  using _daemon = await acquireInstanceLock(paths.lockFile, { pid: 1 });
  assert.equal((await rebuild(true)).added.length, 1);
  await assert.rejects(rebuild(), { code: 'in_use', hint: /banger daemon stop/ });
});

test('rows that are there win, and the database that had them is kept', async () => {
  const image = dir.addImage();
  {
    using store = openStore(paths.stateDb);
    store.upsertImage(someImage({ id: 'mine', artifactDir: image }));
    store.insertVm(someVm('mine', { id: id('1'), name: 'renamed', state: 'running' }), '172.16.0');
    store.insertVm(someVm('mine', { id: id('9'), name: 'without-a-directory' }), '172.16.0');
  }
  const version = await controlVersion();
  await dir.addVm({ id: id('1'), name: 'one' });
  await dir.addVm({ id: id('2'), name: 'two', guestIp: '172.16.0.4' });
  const { added, restored } = await rebuild();
  assert.deepEqual(
    added.map(({ kind, name }) => [kind, name]),
    [['vm', 'two']],
  );
  const previous = restored?.previous ?? '';
  assert.ok(previous.startsWith(`${paths.stateDb}.pre-restore-`), previous);
  assert.ok(existsSync(previous));
  assert.ok((await controlVersion()) > version);
  const byName = rows().vms.map(({ name, state, imageId }) => [name, state, imageId]);
  const sorted = byName.toSorted(([a = ''], [b = '']) => (a < b ? -1 : 1));
  assert.deepEqual(sorted, [
    ['renamed', 'running', 'mine'],
    ['two', 'stopped', 'mine'],
    ['without-a-directory', 'created', 'mine'],
  ]);
});

test('a name or an address that is taken is changed, always in the same way, and it is said', async () => {
  const image = dir.addImage();
  const long = 'n'.repeat(63);
  {
    using store = openStore(paths.stateDb);
    store.upsertImage(someImage({ artifactDir: image, id: 'mine' }));
    store.insertVm(someVm('mine', { name: 'dev' }), '172.16.0');
    store.insertVm(someVm('mine', { name: long }), '172.16.0');
  }
  const at = (day: number) => ({ createdAt: `2026-01-0${day}T00:00:00.000Z` });
  await dir.addVm({ id: id('c'), name: 'dev', ...at(1) });
  await dir.addVm({ id: id('b'), name: 'dev', guestIp: '172.16.0.5', ...at(2) });
  await dir.addVm({ id: id('a'), name: long, guestIp: '10.0.0.7', ...at(3) });
  const { added } = await rebuild();
  assert.deepEqual(
    added.map(({ id, name, note }) => [id, name, note]),
    [
      [id('c'), 'dev-2', 'the name "dev" is taken; the address 172.16.0.2 is taken; it has 172.16.0.4 now'],
      [id('b'), 'dev-3', 'the name "dev" is taken'],
      [id('a'), `${'n'.repeat(61)}-2`, `the name "${long}" is taken`],
    ],
  );
});

test('a disk that lies elsewhere is a disk: it does not come back over another build of its image', async () => {
  dir.addImage();
  await dir.addVm({ id: id('1'), name: 'one' }, 'e'.repeat(64));
  await dir.addVm({ id: id('2'), name: 'two', guestIp: '172.16.0.3' });
  for (const digit of ['1', '2']) {
    const disk = join(paths.vmsDir, id(digit), 'root.qcow2');
    const elsewhere = join(paths.stateDir, `disk-${digit}`);
    renameSync(disk, elsewhere);
    symlinkSync(elsewhere, disk);
  }
  const { skipped } = await rebuild();
  assert.match(skipped[0]?.why ?? '', /stands on another build of image/);
  assert.deepEqual(
    rows().vms.map(({ name, state }) => [name, state]),
    [['two', 'stopped']],
  );
});

test('an address that no guest can have is changed, and it is said', async () => {
  dir.addImage();
  for (const [index, host] of [0, 1, 255].entries()) {
    await dir.addVm({ id: id(String(index)), name: `vm-${index}`, guestIp: `172.16.0.${host}` });
  }
  const { added } = await rebuild();
  assert.equal(added[1]?.note, 'the address 172.16.0.0 is no guest’s; it has 172.16.0.2 now');
  assert.deepEqual(
    rows().vms.map(({ guestIp }) => guestIp),
    ['172.16.0.2', '172.16.0.3', '172.16.0.4'],
  );
});

test('what cannot be used is left out with the reason, and does not stop the rest', async () => {
  dir.addImage();
  dir.addImage('without-kernel', { kernelName: 'gone' });
  dir.addImage('other-name', { name: 'debian-bookworm' });
  truncateSync(join(dir.addImage('cut'), 'rootfs.ext4'), 1);
  mkdirSync(join(paths.imagesDir, 'empty'));
  await dir.addVm({ id: id('1'), name: 'good' });
  await dir.addVm({ id: id('2'), name: 'other-build', guestIp: '172.16.0.3' }, 'e'.repeat(64));
  const spec = { ...someVm('').spec, imageName: 'gone' };
  await dir.addVm({ id: id('3'), name: 'no-image', guestIp: '172.16.0.4', spec });
  await dir.addVm({ id: id('4'), name: 'damaged', guestIp: '172.16.0.5' });
  writeFileSync(join(paths.vmsDir, id('4'), 'vm.json'), '{');
  symlinkSync(join(paths.vmsDir, id('1')), join(paths.vmsDir, id('5')));
  mkdirSync(join(paths.vmsDir, id('6')));
  const { added, skipped } = await rebuild();
  assert.deepEqual(
    added.map(({ name }) => name),
    ['debian-bookworm', 'good'],
  );
  const expected: readonly (readonly [string, RegExp])[] = [
    [join(paths.imagesDir, 'cut'), /is not there, or not the file of 18 bytes it should be/],
    [join(paths.imagesDir, 'empty'), /no manifest/],
    [join(paths.imagesDir, 'other-name'), /its manifest is of image "debian-bookworm"/],
    [join(paths.imagesDir, 'without-kernel'), /the kernel it boots with, "gone", is not in/],
    [join(paths.vmsDir, id('4')), /is not JSON|not JSON/],
    [join(paths.vmsDir, id('5')), /is not a directory/],
    [join(paths.vmsDir, id('6')), /no vm\.json/],
    [join(paths.vmsDir, id('2')), /another build of image "debian-bookworm"/],
    [join(paths.vmsDir, id('3')), /its image "gone" is not here/],
  ];
  assert.deepEqual(
    skipped.map(({ path }) => path),
    expected.map(([path]) => path),
  );
  for (const [index, [, why]] of expected.entries()) assert.match(skipped[index]?.why ?? '', why);
});

test('a database that cannot be read is replaced, and kept', async () => {
  dir.addImage();
  await dir.addVm({ id: id('1'), name: 'one' });
  writeFileSync(paths.stateDb, 'this was a database once'.repeat(200), { mode: 0o600 });
  const { added, skipped, restored } = await rebuild();
  assert.equal(added.length, 2);
  assert.equal(skipped[0]?.path, paths.stateDb);
  assert.match(skipped[0]?.why ?? '', /not a database/);
  assert.match(readFileSync(restored?.previous ?? '', 'latin1'), /^this was a database once/);
  assert.deepEqual(
    rows().vms.map(({ name }) => name),
    ['one'],
  );
});

test('one that cannot be read is replaced even where nothing can be brought back', async () => {
  writeFileSync(paths.stateDb, 'this was a database once'.repeat(200), { mode: 0o600 });
  const { added, restored } = await rebuild();
  assert.deepEqual(added, []);
  assert.ok(existsSync(restored?.previous ?? ''));
  assert.deepEqual(rows(), { images: [], vms: [] });
});

test('a database with a broken page is replaced without a question, and is older than the new one', async () => {
  const image = dir.addImage();
  {
    using store = openStore(paths.stateDb);
    store.upsertImage(someImage({ id: 'mine', artifactDir: image }));
    for (let index = 0; index < 100; index += 1) {
      store.insertVm(someVm('mine', { name: `vm-${index}` }), '172.16.0');
    }
  }
  const version = await controlVersion();
  const bytes = readFileSync(paths.stateDb);
  bytes.fill(0xff, 4096 * 6);
  writeFileSync(paths.stateDb, bytes);
  await dir.addVm({ id: id('1'), name: 'one' });
  const { skipped } = await rebuild();
  assert.match(skipped[0]?.why ?? '', /malformed|damaged/);
  assert.ok((await controlVersion()) > version);
  assert.deepEqual(
    rows().vms.map(({ name }) => name),
    ['one'],
  );
});

test('a database of a newer program is left as it is', async () => {
  {
    using store = openStore(paths.stateDb);
    store.listVms();
  }
  const database = new DatabaseSync(paths.stateDb);
  database.exec("INSERT INTO schema_migrations VALUES (9000, 'later', '')");
  database.close();
  await dir.addVm({ id: id('1'), name: 'one' });
  const before = fingerprint();
  await assert.rejects(rebuild(true), { code: 'version_mismatch', message: /state\.db .*9000/ });
  assert.equal(fingerprint(), before);
  await assert.rejects(rebuild(), { code: 'version_mismatch' });
});

test('nothing is replaced when the database changes between its reading and its replacing', async () => {
  dir.addImage();
  {
    using store = openStore(paths.stateDb);
    store.listVms();
  }
  await dir.addVm({ id: id('1'), name: 'one' });
  // A daemon that comes and goes in between.
  const progress: OperationHandle['progress'] = ({ step }) => {
    if (step !== 'install') return;
    using store = openStore(paths.stateDb);
    store.upsertImage(someImage({ name: 'made-meanwhile' }));
  };
  await assert.rejects(rebuild(false, { ...OPERATION, progress }), {
    code: 'in_use',
    message: /was changed while it was being rebuilt/,
  });
  assert.deepEqual(
    rows().images.map(({ name }) => name),
    ['made-meanwhile'],
  );
});

test('a cancelled rebuild has changed nothing', async () => {
  await dir.addVm({ id: id('1'), name: 'one' });
  const before = fingerprint();
  await assert.rejects(rebuild(true, { ...OPERATION, signal: AbortSignal.abort() }), { code: 'cancelled' });
  assert.equal(fingerprint(), before);
  await assert.rejects(rebuild(false, { ...OPERATION, signal: AbortSignal.abort() }), { code: 'cancelled' });
  assert.ok(!existsSync(paths.stateDb));
});
