import assert from 'node:assert/strict';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { snapshotOf, smallState } from '../../test/helpers/state-fixture.ts';
import { BangerError, type ErrorCode } from '../core/errors.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { exportState } from './export.ts';
import { writeSnapshotTo } from './snapshot-output.ts';

const snapshot = snapshotOf(smallState());
let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'banger-output-'));
  path = join(dir, 'state.sql');
});
afterEach(() => rmSync(dir, { recursive: true }));

function isError(code: ErrorCode): (error: unknown) => boolean {
  return (error) => error instanceof BangerError && error.code === code;
}

test('two files that only the user can read; the same again is fine', async () => {
  assert.deepEqual(await writeSnapshotTo(path, snapshot), { existed: false });
  assert.deepEqual(readdirSync(dir), ['state.sql', 'state.sql.manifest.json']);
  assert.ok(readFileSync(path).equals(snapshot.data));
  assert.ok(readFileSync(`${path}.manifest.json`).equals(snapshot.manifestBytes));
  for (const name of readdirSync(dir)) assert.equal(lstatSync(join(dir, name)).mode & 0o777, 0o600);
  assert.deepEqual(await writeSnapshotTo(path, snapshot), { existed: true });
});

test('the same state, exported at another time, is there already', async () => {
  await writeSnapshotTo(path, snapshot);
  const before = readFileSync(`${path}.manifest.json`);
  const options = { migrations: MIGRATIONS, version: '9.9.9', encoding: 'identity' } as const;
  const later = exportState(smallState(), { ...options, createdAt: '2027-01-01T00:00:00.000Z' });
  assert.ok(!later.manifestBytes.equals(snapshot.manifestBytes));
  assert.deepEqual(await writeSnapshotTo(path, later), { existed: true });
  assert.ok(readFileSync(`${path}.manifest.json`).equals(before));
});

test('what a kill left between the two is completed', async () => {
  writeFileSync(path, snapshot.data);
  assert.deepEqual(await writeSnapshotTo(path, snapshot), { existed: false });
  assert.ok(readFileSync(`${path}.manifest.json`).equals(snapshot.manifestBytes));
});

test('what is something else stays as it is, and nothing is put beside it', async () => {
  const longer = Buffer.concat([snapshot.data, Buffer.from('x')]);
  for (const name of [path, `${path}.manifest.json`]) {
    for (const content of ['', 'other', longer, snapshot.data.subarray(1)]) {
      writeFileSync(name, content);
      await assert.rejects(writeSnapshotTo(path, snapshot), isError('already_exists'));
      assert.ok(readFileSync(name).equals(Buffer.from(content)));
      assert.equal(readdirSync(dir).length, 1);
      rmSync(name);
    }
    mkdirSync(name);
    await assert.rejects(writeSnapshotTo(path, snapshot), isError('already_exists'));
    rmSync(name, { recursive: true });
  }
});

test('symbolic links are not followed, to wherever they lead', async () => {
  const victim = join(dir, 'victim');
  for (const name of [path, `${path}.manifest.json`]) {
    for (const target of ['victim', 'missing', name]) {
      writeFileSync(victim, snapshot.data);
      symlinkSync(target, name);
      await assert.rejects(writeSnapshotTo(path, snapshot), isError('already_exists'));
      assert.equal(readlinkSync(name), target);
      assert.ok(readFileSync(victim).equals(snapshot.data));
      assert.deepEqual(readdirSync(dir).length, 2);
      rmSync(name);
      rmSync(victim);
    }
  }
});

test('nowhere to write', async () => {
  await assert.rejects(writeSnapshotTo(join(dir, 'no', 'such', 'directory'), snapshot), isError('io_error'));
  writeFileSync(join(dir, 'file'), '');
  await assert.rejects(writeSnapshotTo(join(dir, 'file', 'x'), snapshot), isError('io_error'));
  assert.deepEqual(readdirSync(dir), ['file']);
});
