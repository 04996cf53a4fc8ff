/**
 * Whatever ends an export, at whatever step: no file is half written, no branch half fetched, the host's repository has no lock,
 * the next daemon removes what is left, and the same command run again does all of it.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Progress } from '../../src/api/contract.ts';
import { initRepo, type TestRepo } from '../helpers/host-repo.ts';
import { callUntil, type Interruption } from '../helpers/interrupted.ts';
import { settled, TestHome } from '../helpers/test-home.ts';
import { atMoments } from '../helpers/thorough.ts';

const FILES = 150;
/** More in all than fits in windows and pipes. */
const FILE_BYTES = 60_000;
const CHANGE = `
for file in many/*; do head -c ${FILE_BYTES} /dev/urandom > $file; done
git config user.email guest@example.com; git config user.name Guest; git add -A; git commit -qm "$1"
`;
/** It may have passed unseen. */
const MOMENT_MS = 5000;
const digestOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('kills while changes come out of a VM', () => {
  let home: TestHome;
  let repo: TestRepo;
  let file: string;
  /** Of the host, before anything came. */
  let old: ReadonlyMap<string, string>;

  const hostFiles = (): Map<string, string> => {
    const dir = join(repo.dir, 'many');
    return new Map(readdirSync(dir).map((name) => [`many/${name}`, digestOf(readFileSync(join(dir, name)))]));
  };
  const guestFiles = async (): Promise<Map<string, string>> => {
    const listed = await home.guest('dev', 'sh', '-c', 'cd /root/repo && sha256sum many/*');
    return new Map(listed.split('\n').map((line) => [line.slice(66), line.slice(0, 64)]));
  };
  const names = (dir: string): readonly string[] =>
    readdirSync(dir, { recursive: true, encoding: 'utf8' }).toSorted();
  const isUnfinished = (name: string): boolean => /\.tmp-|\.lock$|tmp_|\.keep$/.test(name);
  /** The next daemon is there; nothing of the one before is. */
  const assertClean = async (): Promise<void> => {
    assert.equal((await home.vms()).length, 1);
    assert.deepEqual(readdirSync(join(home.dir, 'state', 'scratch')), []);
    const left = (): readonly string[] => [
      ...readdirSync(home.dir).filter(isUnfinished),
      ...names(repo.dir).filter(isUnfinished),
    ];
    // Git's own processes end a moment after the daemon they worked for.
    await settled(() => left().length === 0);
    assert.deepEqual(left(), []);
    assert.equal(await repo.git('fsck', '--no-dangling', '--connectivity-only'), '');
  };
  const at =
    (text: string, done = 0) =>
    (progress: Progress): boolean =>
      progress.text.startsWith(text) && (progress.done ?? 0) >= done;
  const kill = ({ kill: end }: Interruption): Promise<void> => end();

  before(async () => {
    home = TestHome.warm();
    file = join(home.dir, 'dev.patch');
    repo = await initRepo(join(home.dir, 'project'));
    for (let number = 0; number < FILES; number += 1) repo.write(`many/${number}`);
    await repo.commit('first');
    await home.ok(['vm', 'run', '-d', '--name', 'dev', repo.dir]);
    old = hostFiles();
    await home.guest('dev', 'sh', '-c', `cd /root/repo && ${CHANGE}`, 'sh', 'of the guest');
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('while a patch is written to a file', async () => {
    const params = { ref: 'dev', output: file, mode: 0o644, force: false, sincePrepare: false };
    const isBegun = (): boolean =>
      readdirSync(home.dir).some((name) => name.includes('.tmp-') && statSync(join(home.dir, name)).size > 0);
    const moments = atMoments([at('looking'), at('exporting')], [at('')]);
    for (const moment of moments) {
      const error = await callUntil(home, 'workspace.export', params, moment, kill);
      assert(error !== undefined && !existsSync(file));
      await assertClean();
    }
    const error = await callUntil(home, 'workspace.export', params, at('exporting'), async (how) => {
      await settled(isBegun, MOMENT_MS);
      assert(isBegun());
      await how.kill();
    });
    assert(error !== undefined && !existsSync(file));
    await assertClean();
    await home.ok(['vm', 'workspace', 'export', 'dev', '-o', file]);
    const { stdout } = await home.run(['vm', 'workspace', 'export', 'dev']);
    assert.deepEqual(readFileSync(file), stdout);
    execFileSync('git', ['-C', repo.dir, 'apply', '--check', file]);
    rmSync(file);
  });

  test('while the commits are fetched as a branch', async () => {
    const params = { ref: 'dev', branch: 'from-dev', force: false, umask: 0o022 };
    const objects = join(repo.dir, '.git', 'objects');
    const isComing = (): boolean => names(objects).some((name) => name.includes('tmp_pack'));
    const branches = (): Promise<string> => repo.git('for-each-ref', '--format=%(refname)');
    const head = await home.guest('dev', 'git', 'rev-parse', 'HEAD');
    const ways = [kill, async ({ abort }: Interruption) => abort()];
    for (const way of ways) {
      for (const isLate of [false, true]) {
        await callUntil(home, 'workspace.fetch', params, at('fetching'), async (how) => {
          if (isLate) await settled(isComing, MOMENT_MS);
          await way(how);
        });
        await assertClean();
        const found = await branches();
        assert(
          found === 'refs/heads/main\n' || (await repo.git('rev-parse', 'from-dev')).trim() === head,
          found,
        );
      }
    }
    await home.ok(['vm', 'workspace', 'export', 'dev', '--branch', 'from-dev']);
    assert.equal((await repo.git('rev-parse', 'from-dev')).trim(), head);
    assert.equal(await repo.git('fsck', '--no-dangling'), '');
    assert.deepEqual(hostFiles(), old);
  });

  test('while changes are merged onto the files', async () => {
    const params = { ref: 'dev', umask: 0o022, conflictMarkers: false, dryRun: false };
    const wanted = await guestFiles();
    const index = readFileSync(join(repo.dir, '.git', 'index'));
    const isWriting = (): boolean => [...hostFiles()].some(([path, digest]) => digest !== old.get(path));
    const moments = atMoments(
      [at('fetching', 1), at('merging'), at('writing')],
      [at('looking'), at('fetching'), at('fetching', FILE_BYTES * 10), at('writing', 50)],
    );
    for (const moment of moments) {
      await callUntil(home, 'workspace.apply', params, moment, kill);
      for (const [path, digest] of hostFiles())
        assert(digest === old.get(path) || digest === wanted.get(path), path);
      await assertClean();
    }
    await callUntil(home, 'workspace.apply', params, at('merging'), async (how) => {
      const end = Date.now() + MOMENT_MS;
      while (!isWriting() && Date.now() < end) await new Promise(setImmediate);
      await how.kill();
    });
    const written = [...hostFiles()].filter(([path, digest]) => digest === wanted.get(path)).length;
    assert(written > 0);
    await assertClean();
    await home.ok(['vm', 'workspace', 'export', 'dev', '--apply']);
    assert.deepEqual(hostFiles(), wanted);
    assert.deepEqual(readFileSync(join(repo.dir, '.git', 'index')), index);
    const again = await home.run(['vm', 'workspace', 'export', 'dev', '--apply']);
    assert.match(again.stderr, /has all of its changes/);
  });
});
