/** A file system that is full, of bytes and of inodes, while changes are applied and patches written. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { BangerError } from '../../src/core/errors.ts';
import { writeWholeFile } from '../../src/host/whole-file.ts';
import { applyTo, copyToGuest, type GuestCopy } from '../helpers/guest-copy.ts';
import { contentsOf, initRepo, type TestRepo, temporaryDir } from '../helpers/host-repo.ts';

const skip = process.getuid?.() === 0 ? false : 'mounting needs root';
const FILES = 40;

/** A file system of its own, in memory. */
async function mountedDir(t: TestContext, options: string): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'banger-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `mode=700,${options}`, 'none', dir]);
  t.after(() => {
    execFileSync('umount', ['--lazy', dir]);
    rmdirSync(dir);
  });
  return dir;
}

/** @param size of what the guest puts into each file */
async function sidesOn(dir: string, t: TestContext, size: number): Promise<[TestRepo, GuestCopy]> {
  const host = await initRepo(join(dir, 'repo'));
  for (let number = 0; number < FILES; number += 1) host.write(`dir-${number}/file`, `${number}\n`);
  await host.commit();
  const guest = copyToGuest(host, await temporaryDir(t));
  for (let number = 0; number < FILES; number += 1) {
    guest.repo.write(`dir-${number}/file`, Buffer.alloc(size, `guest ${number} `));
    guest.repo.write(`new-${number}/sub/sub/file`, 'new\n');
  }
  return [host, guest];
}

const failureOf = async (work: Promise<unknown>): Promise<BangerError> => {
  const error = await work.then(
    () => undefined,
    (cause: unknown) => cause as BangerError,
  );
  assert(error !== undefined, 'it fits');
  assert.equal(error.code, 'no_space', error.message);
  return error;
};

test('no room for the new contents: nothing is written', { skip }, async (t) => {
  const [host, guest] = await sidesOn(await mountedDir(t, 'size=1536k'), t, 50_000);
  const before = contentsOf(host.dir);
  const error = await failureOf(applyTo(guest, host.dir));
  assert.match(error.message, /^no room in .*repo for the new files beside the old ones/);
  assert.match(error.hint ?? '', /^nothing was written/);
  assert.deepEqual(contentsOf(host.dir), before);
  assert.deepEqual(
    readdirSync(host.dir).filter((name) => name.includes('.tmp-')),
    [],
  );
});

test('no room in the middle of writing: files are whole, it says how far it came, and the next run goes on', {
  skip,
}, async (t) => {
  const dir = await mountedDir(t, 'nr_inodes=100k');
  const [host, guest] = await sidesOn(dir, t, 100);
  const before = contentsOf(host.dir);
  const used = Number(execFileSync('df', ['--output=iused', dir], { encoding: 'utf8' }).split('\n')[1]);
  // Enough for the new files where they wait, and their directories there; not for all directories in their place.
  const waiting = 3 + FILES * 2 + FILES * 4;
  execFileSync('mount', ['-o', `remount,nr_inodes=${used + waiting + FILES}`, dir]);
  const error = await failureOf(applyTo(guest, host.dir));
  const [, written = '', all] = / (\d+) of (\d+) files were written before$/.exec(error.message) ?? [];
  assert.equal(all, String(FILES * 2), error.message);
  assert(Number(written) > 0 && Number(written) < FILES * 2);
  assert.match(error.hint ?? '', /run the command again/);
  const wanted = contentsOf(guest.repo.dir);
  const after = contentsOf(host.dir);
  for (const [path, what] of after) assert(what === before.get(path) || what === wanted.get(path), path);
  const changed = [...after].filter(([path, what]) => what !== before.get(path)).length;
  assert.equal(changed, Number(written));
  execFileSync('mount', ['-o', 'remount,nr_inodes=100k', dir]);
  await applyTo(guest, host.dir);
  assert.deepEqual(contentsOf(host.dir), wanted);
});

test('no room for what is merged: nothing is written', { skip }, async (t) => {
  const [host, guest] = await sidesOn(await temporaryDir(t), t, 50_000);
  const before = contentsOf(host.dir);
  for (const size of ['8k', '64k', '256k', '1m']) {
    const scratchDir = await mountedDir(t, `size=${size}`);
    const error = await failureOf(applyTo(guest, host.dir, { scratchDir }));
    assert.match(`${error.hint}`, /df -h/, error.message);
    assert.deepEqual(readdirSync(scratchDir), [], size);
    assert.deepEqual(contentsOf(host.dir), before);
  }
});

test('no room for a whole file: nothing under its name, and the one that was there stays', {
  skip,
}, async (t) => {
  const scratchDir = await temporaryDir(t);
  const dir = await mountedDir(t, 'size=1m');
  const path = join(dir, 'dev.patch');
  const write = (bytes: number) =>
    writeWholeFile(path, { force: true, scratchDir }, async (sink) => {
      for (let left = bytes; left > 0; left -= 100_000) await sink.write(Buffer.alloc(100_000, 'x'));
    });
  assert.match((await failureOf(write(2_000_000))).message, /^cannot write .*dev\.patch: no space left/);
  assert.deepEqual(readdirSync(dir), []);
  await write(100_000);
  await failureOf(write(2_000_000));
  assert.deepEqual(readdirSync(dir), ['dev.patch']);
  assert.equal(readFileSync(path).length, 100_000);
  assert.deepEqual(readdirSync(scratchDir), []);
});
