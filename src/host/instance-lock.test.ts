import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { BangerError } from '../core/errors.ts';
import { acquireInstanceLock } from './instance-lock.ts';
import { preparePrivateFile } from './sqlite-file.ts';

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lock-'));
  path = join(dir, 'bangerd.lock');
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

const holder = { pid: process.pid, socketPath: '/run/x.sock' };
const inUse = (error: unknown): boolean =>
  error instanceof BangerError &&
  error.code === 'in_use' &&
  error.message.includes(`(pid ${process.pid})`) &&
  error.message.includes('/run/x.sock');

/** As another process sees it, through the stock SQLite shell. */
function othersCanLock(): boolean {
  const result = spawnSync('sqlite3', ['-cmd', '.timeout 0', path, 'BEGIN EXCLUSIVE; ROLLBACK;']);
  assert.equal(result.error, undefined);
  return result.status === 0;
}

test('the lock itself takes no room: on a full disk, what frees some can still be run', async () => {
  using _lock = await acquireInstanceLock(path, holder);
  assert.deepEqual(readdirSync(dir).toSorted(), ['bangerd.lock', 'bangerd.lock.holder']);
  assert.equal(statSync(path).size, 0);
});

test('one holder; the second is told who it is; released, it can be taken again', async () => {
  const lock = await acquireInstanceLock(path, holder);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(statSync(`${path}.holder`).mode & 0o777, 0o600);
  await assert.rejects(acquireInstanceLock(path, { pid: 1 }), inUse);
  assert.ok(!othersCanLock());
  lock.release();
  lock.release();
  assert.ok(!existsSync(`${path}.holder`));
  assert.ok(othersCanLock());
  using _again = await acquireInstanceLock(path, holder);
  assert.ok(!othersCanLock());
});

test('a refused attempt and a check of the file leave the lock in force for other processes', async () => {
  using _lock = await acquireInstanceLock(path, holder);
  await assert.rejects(acquireInstanceLock(path, holder), inUse);
  preparePrivateFile(path);
  assert.ok(!othersCanLock());
});

test('the kernel frees the lock of a killed process; its stale holder file misleads nobody', async () => {
  const module = JSON.stringify(new URL('./instance-lock.ts', import.meta.url).href);
  const script = `
    const { acquireInstanceLock } = await import(${module});
    await acquireInstanceLock(${JSON.stringify(path)}, { pid: process.pid });
    console.log('held');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  await assert.rejects(
    acquireInstanceLock(path, holder),
    (error) => error instanceof BangerError && error.message.includes(`(pid ${child.pid})`),
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok(existsSync(`${path}.holder`));
  using _lock = await acquireInstanceLock(path, holder);
  await assert.rejects(acquireInstanceLock(path, holder), inUse);
});

test('of many processes at once exactly one gets it', async () => {
  const module = JSON.stringify(new URL('./instance-lock.ts', import.meta.url).href);
  const script = `
    const { acquireInstanceLock } = await import(${module});
    const answer = await acquireInstanceLock(${JSON.stringify(path)}, { pid: process.pid }).then(() => 'mine', (e) => e.code);
    process.stdout.write(answer);
    process.stdin.on('end', () => process.exit()).resume();`;
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  const answers = await Promise.all(
    children.map(async (child) => String((await once(child.stdout, 'data'))[0])),
  );
  for (const child of children) child.stdin.end();
  await Promise.all(children.map((child) => once(child, 'exit')));
  assert.deepEqual(answers.sort(), ['in_use', 'in_use', 'in_use', 'mine']);
});

test('a holder file that says nonsense does not hide the error', async () => {
  using _lock = await acquireInstanceLock(path, holder);
  for (const text of ['{', '[]', '{"pid":"x","socketPath":3}']) {
    writeFileSync(`${path}.holder`, text);
    await assert.rejects(acquireInstanceLock(path, holder), /another bangerd works on/);
  }
});

test('a lock file that is a link, open to others or not a database is refused', async () => {
  symlinkSync(join(dir, 'elsewhere'), path);
  await assert.rejects(acquireInstanceLock(path, holder), /not a regular file/);
  rmSync(path);
  writeFileSync(path, '', { mode: 0o600 });
  chmodSync(path, 0o644);
  await assert.rejects(acquireInstanceLock(path, holder), /open to other users \(mode 0644\)/);
  rmSync(path);
  writeFileSync(path, 'not a database, but long enough to look at'.repeat(50), { mode: 0o600 });
  await assert.rejects(acquireInstanceLock(path, holder), /cannot lock/);
});
