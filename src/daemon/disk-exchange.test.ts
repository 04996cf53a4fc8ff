import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { someVm } from '../../test/helpers/store-records.ts';
import { resolvePaths } from '../host/paths.ts';
import { beginExchange, endExchange, exchangeDisks, type ExchangedRow } from './disk-exchange.ts';
import { type VmFiles, vmFiles } from './vm-files.ts';

let home = '';
let files: VmFiles;
const row: ExchangedRow = { spec: someVm('image').spec, workspace: null };
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'banger-exchange-'));
  files = vmFiles(resolvePaths({ BANGER_HOME: home }, 0), 'a'.repeat(32));
  mkdirSync(files.dir, { recursive: true });
  writeFileSync(files.rootDisk, 'old root');
  writeFileSync(files.transferDisk, 'old transfer');
});
afterEach(() => rmSync(home, { recursive: true }));

const disks = () => [readFileSync(files.rootDisk, 'utf8'), readFileSync(files.transferDisk, 'utf8')];

async function commit(): Promise<void> {
  await using exchange = await beginExchange(files);
  writeFileSync(exchange.disks.rootDisk, 'new root');
  writeFileSync(exchange.disks.transferDisk, 'new transfer');
  await exchange.commit(row);
}

test('one that is not committed leaves nothing, and the old disks', async () => {
  {
    await using exchange = await beginExchange(files);
    writeFileSync(exchange.disks.rootDisk, 'new root');
  }
  assert.equal(await exchangeDisks(files), undefined);
  assert.deepEqual(readdirSync(files.dir).sort(), ['root.qcow2', 'transfer.img']);
  assert.deepEqual(disks(), ['old root', 'old transfer']);
});

test('one that is committed happens, tells the row again until it is ended, and leaves nothing', async () => {
  await commit();
  assert.deepEqual(disks(), ['old root', 'old transfer'], 'nothing has happened yet');
  assert.deepEqual(await exchangeDisks(files), row);
  assert.deepEqual(disks(), ['new root', 'new transfer']);
  assert.deepEqual(
    await exchangeDisks(files),
    row,
    'whoever was killed before the row was written does it again',
  );
  await endExchange(files);
  assert.equal(await exchangeDisks(files), undefined);
  assert.deepEqual(readdirSync(files.dir).sort(), ['root.qcow2', 'transfer.img']);
});

test('what is known of the shippings goes with the disks, whoever is killed meanwhile', async () => {
  const submodule = `shipped-${'b'.repeat(32)}`;
  const shipped = () =>
    Object.fromEntries(
      readdirSync(files.dir)
        .filter((name) => name.startsWith('shipped'))
        .map((name) => [name, readFileSync(join(files.dir, name), 'utf8')]),
    );
  for (const name of [
    'shipped.json',
    'shipped.sent',
    'shipped.index',
    `${submodule}.json`,
    `${submodule}.index`,
  ])
    writeFileSync(join(files.dir, name), 'old');
  {
    await using exchange = await beginExchange(files);
    for (const name of ['shipped.json', `${submodule}.sent`]) writeFileSync(join(exchange.dir, name), 'new');
    await exchange.commit(row);
  }
  assert.equal(Object.keys(shipped()).length, 5, 'nothing has happened yet');
  const wanted = { 'shipped.json': 'new', [`${submodule}.sent`]: 'new' };
  for (let time = 0; time < 2; time += 1) {
    assert.deepEqual(await exchangeDisks(files), row);
    assert.deepEqual(shipped(), wanted);
  }
  await endExchange(files);
  assert.deepEqual(shipped(), wanted);
});

test('one that was killed between its two disks is brought to its end', async () => {
  await commit();
  const dir = join(files.dir, 'exchange');
  rmSync(files.transferDisk);
  writeFileSync(files.transferDisk, 'new transfer');
  rmSync(join(dir, 'transfer.img'));
  assert.deepEqual(await exchangeDisks(files), row);
  assert.deepEqual(disks(), ['new root', 'new transfer']);
});

test('one that was killed while it was ended is over', async () => {
  await commit();
  await exchangeDisks(files);
  rmSync(join(files.dir, 'exchange', 'row.json'));
  assert.equal(await exchangeDisks(files), undefined);
  assert.ok(!existsSync(join(files.dir, 'exchange')));
});

test('one whose row is damaged is an error, and its disks stay where they are', async () => {
  await commit();
  writeFileSync(join(files.dir, 'exchange', 'row.json'), '{"spec":{}}');
  await assert.rejects(exchangeDisks(files), { code: 'io_error', message: /row\.json is damaged/ });
  assert.deepEqual(disks(), ['old root', 'old transfer']);
});
