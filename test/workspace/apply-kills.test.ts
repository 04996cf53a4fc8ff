/** A process that is killed while it applies changes: every file is whole, the next one goes on, and what was left is swept. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { sweepScratch } from '../../src/daemon/sweep-scratch.ts';
import { NO_LOG } from '../../src/host/log.ts';
import { applyTo, copyToGuest, type GuestCopy } from '../helpers/guest-copy.ts';
import { contentsOf, smallRepo, type TestRepo, temporaryDir } from '../helpers/host-repo.ts';
import { gitFingerprint } from '../helpers/local-guest.ts';
import { THOROUGH } from '../helpers/thorough.ts';
import type { ApplyChild } from './apply-child.ts';

const CHILD = join(import.meta.dirname, 'apply-child.ts');
const LINES = 'one\ntwo\nthree\nfour\nfive\nsix\nseven\n';
/** More than a pipe holds: git is in the middle of it. */
const LARGE_BYTES = 3_000_000;

/** Files that each one writes before it is killed. */
const STEP = THOROUGH ? 1 : 2;
/** More: they make no way. */
const MOST_KILLS = 12;

interface Sides {
  readonly host: TestRepo;
  readonly guest: GuestCopy;
  readonly scratch: string;
}

async function makeSides(t: TestContext): Promise<Sides> {
  const host = await smallRepo(t);
  host.write('lines', LINES);
  host.write('moved', 'a long line\n'.repeat(20));
  host.write('dir/sub/deep');
  await host.commit();
  const guest = copyToGuest(host, await temporaryDir(t));
  const { repo } = guest;
  repo.write('lines', LINES.replace('one', 'ONE of the guest'));
  renameSync(join(repo.dir, 'moved'), join(repo.dir, 'moved here'));
  repo.write('new dir/large', Buffer.alloc(LARGE_BYTES, 'x'));
  rmSync(join(repo.dir, 'dir'), { recursive: true });
  repo.write('dir', 'a file now\n');
  host.write('moved', `${'a long line\n'.repeat(20)}and one of the host\n`);
  const scratch = join(guest.scratchPath, '..', 'host-scratch');
  mkdirSync(scratch);
  return { host, guest, scratch };
}

/** @returns whether it came to its end before it was killed */
function applyKilled({ host, guest }: Sides, killAt: ApplyChild['killAt'], conflictMarkers = false): boolean {
  const { headCommit, shipped, scratchPath } = guest;
  const copy = { headCommit, shipped, scratchPath };
  const what: ApplyChild = { dir: guest.repo.dir, hostDir: host.dir, copy, conflictMarkers, killAt };
  const { status, signal, stderr } = spawnSync(process.execPath, [CHILD, JSON.stringify(what)], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  assert(status === 0 || signal === 'SIGKILL', stderr);
  return status === 0;
}

function hiddenNames(dir: string): readonly string[] {
  return readdirSync(dir).filter((name) => name.includes('.tmp-'));
}

async function sweep({ scratch, host }: Sides): Promise<void> {
  await sweepScratch(scratch, NO_LOG);
  assert.deepEqual(readdirSync(scratch), []);
  assert.deepEqual(hiddenNames(host.dir), []);
}

test('killed before each file: it is what it was or what it is to be, and the next run goes on from there', async (t) => {
  const sides = await makeSides(t);
  const { host, guest } = sides;
  const before = contentsOf(host.dir);
  const git = gitFingerprint(host.dir);
  assert(!applyKilled(sides, { written: 0 }));
  assert.equal(hiddenNames(host.dir).length, 1, 'killed while its files lay there');
  assert.equal(
    await host.git('--no-optional-locks', 'status', '--porcelain'),
    ' M moved\n',
    'git does not see them',
  );
  await sweep(sides);
  assert.deepEqual(contentsOf(host.dir), before);
  const wanted = new Map(contentsOf(guest.repo.dir));
  const moved = `${'a long line\n'.repeat(20)}and one of the host\n`;
  host.write('moved here', moved);
  wanted.set('moved here', contentsOf(host.dir).get('moved here') ?? '');
  rmSync(join(host.dir, 'moved here'));
  let kills = 0;
  while (!applyKilled(sides, { written: STEP })) {
    kills += 1;
    assert(kills < MOST_KILLS);
    await sweep(sides);
    for (const [path, what] of contentsOf(host.dir))
      assert(what === before.get(path) || what === wanted.get(path), `${path} after ${kills} kills`);
  }
  assert(kills >= 2, `${kills} kills`);
  assert.deepEqual(contentsOf(host.dir), wanted);
  assert.deepEqual((await applyTo(guest, host.dir)).changes, []);
  assert.deepEqual(gitFingerprint(host.dir), git);
  await sweep(sides);
});

test('killed while files get markers: none gets them twice', async (t) => {
  const sides = await makeSides(t);
  const { host, guest } = sides;
  for (const name of ['lines', 'other lines']) {
    host.write(name, LINES.replace('one', 'EINS'));
    guest.repo.write(name, LINES.replace('one', 'ONE of the guest'));
  }
  const copy = join(guest.scratchPath, '..', 'uninterrupted');
  spawnSync('cp', ['-a', host.dir, copy]);
  const { conflicts } = await applyTo(guest, copy, { conflictMarkers: true });
  assert.equal(conflicts.length, 2);
  let kills = 0;
  while (!applyKilled(sides, { written: STEP }, true)) {
    kills += 1;
    assert(kills < MOST_KILLS);
  }
  assert(kills >= 2, `${kills} kills`);
  await sweep(sides);
  assert.deepEqual(contentsOf(host.dir), contentsOf(copy));
  assert.equal(readFileSync(join(host.dir, 'lines'), 'utf8').match(/^<{7} host/gm)?.length, 1);
  const again = await applyTo(guest, host.dir, { conflictMarkers: true });
  assert.deepEqual(again.changes, []);
  assert.match(again.conflicts[0]?.why ?? '', /markers already/);
});

test('killed while a program of the host runs: nothing has changed, and nothing is left', async (t) => {
  const sides = await makeSides(t);
  const { host } = sides;
  const before = contentsOf(host.dir);
  const git = gitFingerprint(host.dir);
  let programs = 1;
  for (; !applyKilled(sides, { programs }); programs += THOROUGH ? 1 : 8) {
    // Programs end a moment after the one that ran them.
    for (let tries = 0; ; tries += 1) {
      try {
        await sweep(sides);
        break;
      } catch (error) {
        if (tries === 20) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    assert.deepEqual(contentsOf(host.dir), before, `${programs}`);
    assert.deepEqual(gitFingerprint(host.dir), git);
  }
  assert(programs > 8, `${programs}`);
});
