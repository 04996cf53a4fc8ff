import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { someVm, someWorkspace } from '../../test/helpers/store-records.ts';
import type { ErrorCode } from '../core/errors.ts';
import type { VmRecord } from '../core/model/vm.ts';
import {
  hasVmRecord,
  listVmDirs,
  readVmRecord,
  recordOf,
  removeVmRecord,
  saysTheSame,
  type VmRecordFile,
  writeVmRecord,
} from './vm-record-file.ts';

const ID = '0123456789abcdef0123456789abcdef';
const DIGEST = 'd'.repeat(64);
const vm: VmRecord = {
  ...someVm('image', {
    id: ID,
    workspace: someWorkspace({ sourcePath: '/home/u/é' }),
  }),
  guestIp: '172.16.0.7',
};

let vmsDir = '';
let dir = '';
let file = '';
beforeEach(() => {
  vmsDir = mkdtempSync(join(tmpdir(), 'vm-record-'));
  dir = join(vmsDir, ID);
  file = join(dir, 'vm.json');
});
afterEach(() => rmSync(vmsDir, { recursive: true }));

function recordFor(row: VmRecord): VmRecordFile {
  const record = recordOf(row, DIGEST);
  assert.ok(record);
  return record;
}

test('a record reads back as it was written, private, and alone in its directory', async () => {
  assert.equal(await readVmRecord(dir, ID), undefined);
  await writeVmRecord(dir, recordFor(vm));
  const { spec, workspace, name, guestIp, createdAt, updatedAt } = vm;
  assert.deepEqual(await readVmRecord(dir, ID), {
    recordVersion: 1,
    ...{ id: ID, name, image: { name: 'debian-bookworm', sha256: DIGEST }, guestIp, spec, workspace },
    ...{ createdAt, updatedAt },
  });
  assert.equal(statSync(file).mode & 0o7777, 0o600);
  assert.equal(statSync(dir).mode & 0o7777, 0o700);
  assert.deepEqual(readdirSync(dir), ['vm.json']);
});

test('what changes with the state of a VM is not in its record; what a user changes is', () => {
  const record = recordFor(vm);
  const later = { updatedAt: '2027-01-01T00:00:00.000Z', lastTouchedAt: '2027-01-01T00:00:00.000Z' };
  const runs: VmRecord = { ...vm, ...later, state: 'running', runtime: { bootId: 'b' }, stats: { cpuMs: 1 } };
  assert.ok(saysTheSame(record, recordFor(runs)));
  for (const change of [
    { name: 'other' },
    { guestIp: '172.16.0.8' },
    { workspace: null },
    { spec: { ...vm.spec, vcpus: 3 } },
  ]) {
    assert.ok(!saysTheSame(record, recordFor({ ...vm, ...change })), JSON.stringify(change));
  }
});

test('a row that is too damaged to be written down has no record', () => {
  assert.equal(recordOf({ ...vm, spec: { ...vm.spec, imageName: '', vcpus: 0 } }, null), undefined);
  assert.equal(recordOf({ ...vm, guestIp: '' }, null), undefined);
  assert.equal(recordOf({ ...vm, id: '../../etc' }, null), undefined);
});

test('a record that is not what it should be is refused', async () => {
  const good = recordFor(vm);
  const spec = { ...vm.spec, imageName: '../x' };
  const cases: readonly (readonly [object | string, ErrorCode, RegExp])[] = [
    ['', 'io_error', /not JSON/],
    ['null', 'io_error', /damaged/],
    [{ ...good, recordVersion: 2 }, 'version_mismatch', /record version 2; this banger reads version 1/],
    [{ ...good, id: 'f'.repeat(32) }, 'io_error', /it is of VM f{32}/],
    [{ ...good, id: '..' }, 'io_error', /is not an id/],
    [{ ...good, name: '../dev' }, 'io_error', /is not a name of a VM/],
    [{ ...good, name: 'dev\u001b[2J' }, 'io_error', /is not a name of a VM/],
    [{ ...good, image: { name: '../x', sha256: null }, spec }, 'io_error', /is not a name of an image/],
    [{ ...good, image: { name: 'other', sha256: null } }, 'io_error', /it names two images/],
    [{ ...good, image: { name: 'debian-bookworm', sha256: 'x' } }, 'io_error', /sha256/],
    [{ ...good, guestIp: '172.16.0.256' }, 'io_error', /is not an IPv4 address/],
    [{ ...good, spec: { ...vm.spec, vcpus: -1 } }, 'io_error', /vcpus/],
    [{ ...good, spec: { ...vm.spec, driver: 'sh' } }, 'io_error', /driver/],
    [{ ...good, spec: { ...vm.spec, ephemeral: true } }, 'io_error', /ephemeral/],
    [{ ...good, workspace: { ...vm.workspace, headCommit: 'HEAD' } }, 'io_error', /headCommit/],
    [{ ...good, createdAt: 'a\nb' }, 'io_error', /createdAt/],
    [{ ...good, state: 'running' }, 'io_error', /state/],
    [`${' '.repeat(64 * 1024)}${JSON.stringify(good)}`, 'limit_exceeded', /larger than 65536 bytes/],
  ];
  mkdirSync(dir);
  for (const [content, code, message] of cases) {
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    await assert.rejects(readVmRecord(dir, ID), { code, message }, `${message}`);
    assert.ok(await hasVmRecord(dir), 'refused, but there');
  }
});

test('neither a link nor anything but a file is read', async () => {
  const elsewhere = join(vmsDir, 'elsewhere');
  await writeVmRecord(elsewhere, recordFor(vm));
  symlinkSync(elsewhere, dir);
  await assert.rejects(readVmRecord(dir, ID), { code: 'io_error', message: /is not a directory/ });
  rmSync(dir);
  mkdirSync(dir);
  symlinkSync(join(elsewhere, 'vm.json'), file);
  await assert.rejects(readVmRecord(dir, ID), { code: 'io_error', message: /symbolic link/ });
  rmSync(file);
  mkdirSync(file);
  await assert.rejects(readVmRecord(dir, ID), { code: 'io_error', message: /regular file|EISDIR/ });
  rmSync(file, { recursive: true });
  execFileSync('mkfifo', [file]);
  await assert.rejects(readVmRecord(dir, ID), { code: 'io_error', message: /regular file/ });
  rmSync(file);
  symlinkSync('/nowhere', file);
  assert.ok(await hasVmRecord(dir), 'a link to nothing is something');
});

test('lists VM directories and whether they carry a record; other names are nobody’s', async () => {
  const other = 'f'.repeat(32);
  await writeVmRecord(dir, recordFor(vm));
  mkdirSync(join(vmsDir, other));
  mkdirSync(join(vmsDir, 'lost+found'));
  writeFileSync(join(vmsDir, 'e'.repeat(32)), 'a file');
  const plain = { id: other, recorded: false };
  const odd = { id: 'e'.repeat(32), recorded: false };
  assert.deepEqual(await listVmDirs(vmsDir), [{ id: ID, recorded: true }, odd, plain]);
  await removeVmRecord(dir);
  await removeVmRecord(dir);
  assert.deepEqual(await listVmDirs(vmsDir), [{ id: ID, recorded: false }, odd, plain]);
  assert.deepEqual(await listVmDirs(join(vmsDir, 'none')), []);
});

test('the same row gives the same bytes, whatever was there', async () => {
  await writeVmRecord(dir, recordFor(vm));
  const before = readFileSync(file, 'utf8');
  await writeVmRecord(dir, recordFor({ ...vm, name: 'other' }));
  assert.notEqual(readFileSync(file, 'utf8'), before);
  await writeVmRecord(dir, recordFor(vm));
  assert.equal(readFileSync(file, 'utf8'), before);
});
