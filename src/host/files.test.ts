import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
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
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { BangerError, type ErrorCode } from '../core/errors.ts';
import {
  listDir,
  makeTemporaryDir,
  publishDir,
  readJsonFile,
  readTextFile,
  removeTree,
  sweepTemporaries,
  temporaryPath,
  writeFileAtomic,
} from './files.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'files-'));
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

const withCode = (code: ErrorCode) => (error: unknown) => error instanceof BangerError && error.code === code;

test('writeFileAtomic makes and replaces, with the mode asked for, and leaves nothing beside', async () => {
  const path = join(dir, 'f');
  await writeFileAtomic(path, 'one');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const inode = statSync(path).ino;
  await writeFileAtomic(path, Buffer.from('two'), { mode: 0o644, durable: false });
  assert.equal(readFileSync(path, 'utf8'), 'two');
  assert.notEqual(statSync(path).ino, inode, 'a reader of the old file keeps it whole');
  assert.equal(statSync(path).mode & 0o777, 0o644);
  assert.deepEqual(readdirSync(dir), ['f']);
});

test('writeFileAtomic replaces a symlink, not what it points to', async () => {
  writeFileSync(join(dir, 'victim'), 'v');
  symlinkSync(join(dir, 'victim'), join(dir, 'f'));
  await writeFileAtomic(join(dir, 'f'), 'new');
  assert.equal(readFileSync(join(dir, 'victim'), 'utf8'), 'v');
  assert.ok(lstatSync(join(dir, 'f')).isFile());
});

test('a failed write leaves the old file and no temporary', async () => {
  await assert.rejects(writeFileAtomic(join(dir, 'missing/f'), 'x'), withCode('io_error'));
  mkdirSync(join(dir, 'd'));
  await assert.rejects(writeFileAtomic(join(dir, 'd'), 'x'), withCode('io_error'));
  assert.deepEqual(readdirSync(dir), ['d']);
});

test('readJsonFile: content, nothing, not JSON, too large, not a file', async () => {
  const path = join(dir, 'f.json');
  assert.equal(await readJsonFile(path), undefined);
  writeFileSync(path, '{"a":[1]}');
  assert.deepEqual(await readJsonFile(path), { a: [1] });
  assert.deepEqual(await readJsonFile(path, 9), { a: [1] });
  await assert.rejects(readJsonFile(path, 8), withCode('limit_exceeded'));
  writeFileSync(path, '{');
  await assert.rejects(readJsonFile(path), /f\.json is not JSON/);
  await assert.rejects(readJsonFile(dir), withCode('io_error'));
});

test('a FIFO in a file’s place is refused, not waited for', async () => {
  const path = join(dir, 'fifo');
  assert.equal(spawnSync('mkfifo', [path]).status, 0);
  await assert.rejects(readTextFile(path, 10), /not a regular file/);
});

test('a file that claims no size is read to its end and capped all the same', async () => {
  assert.match((await readTextFile('/proc/self/status', 64 * 1024)) ?? '', /^Name:[^]*ctxt_switches/);
  await assert.rejects(readTextFile('/proc/self/status', 64), withCode('limit_exceeded'));
});

test('removeTree removes links without following them', async () => {
  const outside = mkdtempSync(join(tmpdir(), 'files-outside-'));
  writeFileSync(join(outside, 'keep'), '');
  mkdirSync(join(dir, 't/deep/er'), { recursive: true });
  for (let i = 0; i < 300; i += 1) writeFileSync(join(dir, `t/deep/${i}`), '');
  symlinkSync(outside, join(dir, 't/link'));
  writeFileSync(Buffer.concat([Buffer.from(join(dir, 't/deep/')), Buffer.from([0xff, 0x41])]), 'no UTF-8');
  await removeTree(join(dir, 't'), { below: dir });
  assert.ok(!existsSync(join(dir, 't')));
  symlinkSync(outside, join(dir, 't'));
  await removeTree(join(dir, 't'), { below: dir });
  assert.deepEqual(readdirSync(outside), ['keep']);
  await removeTree(join(dir, 't'), { below: dir });
  rmSync(outside, { recursive: true });
});

test('removeTree refuses what is not below the directory it was told', async () => {
  const outside = mkdtempSync(join(tmpdir(), 'files-outside-'));
  mkdirSync(join(outside, 'sub'));
  symlinkSync(outside, join(dir, 'way-out'));
  for (const path of [
    outside,
    dir,
    dirname(dir),
    join(dir, '..'),
    '/',
    join(dir, 'way-out/sub'),
    `${dir}x`,
  ]) {
    await assert.rejects(removeTree(path, { below: dir }), withCode('permission'), path);
  }
  assert.deepEqual(readdirSync(outside), ['sub']);
  rmSync(outside, { recursive: true });
});

test('removeTree stops at its limit', async () => {
  mkdirSync(join(dir, 't'));
  for (let i = 0; i < 10; i += 1) writeFileSync(join(dir, `t/${i}`), '');
  await assert.rejects(removeTree(join(dir, 't'), { below: dir, maxEntries: 5 }), withCode('limit_exceeded'));
});

test('publishDir: the whole directory under its name, or an error and no change', async () => {
  const final = join(dir, 'image');
  const first = await makeTemporaryDir(final);
  assert.equal(statSync(first).mode & 0o777, 0o700);
  mkdirSync(join(first, 'sub'));
  writeFileSync(join(first, 'sub/f'), '1');
  await publishDir(first, final);
  assert.equal(readFileSync(join(final, 'sub/f'), 'utf8'), '1');
  const second = await makeTemporaryDir(final);
  writeFileSync(join(second, 'g'), '2');
  await assert.rejects(publishDir(second, final), withCode('already_exists'));
  assert.deepEqual(readdirSync(final), ['sub']);
  await publishDir(second, final, { replace: true });
  assert.deepEqual(readdirSync(final), ['g']);
  assert.deepEqual(readdirSync(dir), ['image']);
});

test('publishDir with replace puts the old one back when the new one is not there', async () => {
  const final = join(dir, 'image');
  mkdirSync(final);
  writeFileSync(join(final, 'old'), '');
  await assert.rejects(publishDir(join(dir, 'nothing'), final, { replace: true }));
  assert.deepEqual(readdirSync(final), ['old']);
});

test('sweepTemporaries removes what dead processes left and nothing else', async () => {
  const mine = temporaryPath(join(dir, 'f'));
  writeFileSync(mine, '');
  const own = basename(mine);
  // The same pid with another start time is another process.
  const dead = [own.replace(/tmp-\d+-/, 'tmp-4194303-'), own.replace(/(tmp-\d+)-\d+-/, '$1-1-')];
  writeFileSync(join(dir, dead[0] as string), '');
  mkdirSync(join(dir, dead[1] as string));
  writeFileSync(join(dir, dead[1] as string, 'inside'), '');
  const strangers = ['.f.tmp-1', 'f', '.f.tmp-4194303-1-xyz', `x${own}`];
  for (const name of strangers) writeFileSync(join(dir, name), '');
  assert.deepEqual(await sweepTemporaries(dir), [...dead].sort());
  assert.deepEqual(readdirSync(dir).sort(), [own, ...strangers].sort());
  assert.deepEqual(await sweepTemporaries(join(dir, 'missing')), []);
});

test('a writer that is killed leaves the old file whole, and the sweep takes the rest', async () => {
  const path = join(dir, 'f');
  await writeFileAtomic(path, 'old');
  const module = JSON.stringify(new URL('./files.ts', import.meta.url).href);
  const script = `
    import { writeFileSync } from 'node:fs';
    const { temporaryPath } = await import(${module});
    writeFileSync(temporaryPath(${JSON.stringify(path)}), 'half');
    process.kill(process.pid, 'SIGKILL');`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  assert.equal(child.signal, 'SIGKILL');
  assert.equal((await listDir(dir)).length, 2);
  assert.equal((await sweepTemporaries(dir)).length, 1);
  assert.equal(await readTextFile(path, 10), 'old');
});
