import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  gitIn,
  initRepo,
  repoAt,
  runner,
  smallRepo,
  type TestRepo,
  temporaryDir,
} from '../../test/helpers/host-repo.ts';
import { gitFingerprint } from '../../test/helpers/local-guest.ts';
import { type FetchBranchOptions, fetchGuestBranch } from './fetch-branch.ts';

/** What banger's own helper does, on a directory of this host. */
const HELPER = `#!/bin/sh
path=\${2#banger::}
while read -r line; do
  case $line in
    capabilities) printf 'connect\\n\\n' ;;
    connect*) printf '\\n'; exec env -u GIT_DIR -u GIT_OBJECT_DIRECTORY -u GIT_ALTERNATE_OBJECT_DIRECTORIES git upload-pack "$path" ;;
  esac
done
`;

interface Place {
  readonly host: TestRepo;
  readonly guest: TestRepo;
  readonly scratchDir: string;
  readonly fetch: (more?: Partial<FetchBranchOptions>) => ReturnType<typeof fetchGuestBranch>;
}

/** @param host given: a clone of another repository is the guest's */
async function place(t: TestContext, host?: TestRepo): Promise<Place> {
  const dir = await temporaryDir(t);
  const source = await smallRepo(t);
  for (const name of ['second', 'third', 'fourth']) {
    source.write(name);
    await source.commit(name);
  }
  const guestDir = join(dir, 'guest');
  await gitIn('/', 'clone', '--quiet', '--depth=2', `file://${source.dir}`, guestDir);
  const guest = repoAt(guestDir);
  await guest.git('config', 'user.email', 'guest@example.com');
  await guest.git('config', 'user.name', 'Guest');
  guest.write('of the guest');
  await guest.commit('of the guest');
  writeFileSync(join(dir, 'git-remote-banger'), HELPER, { mode: 0o755 });
  const scratchDir = await temporaryDir(t);
  const to = host ?? source;
  const since = (await source.git('rev-parse', 'HEAD')).trim();
  return {
    host: to,
    guest,
    scratchDir,
    fetch: (more = {}) =>
      fetchGuestBranch({
        address: `banger::${guestDir}`,
        helperDir: dir,
        source: 'HEAD',
        since,
        dir: to.dir,
        branch: 'from/guest',
        umask: 0o027,
        force: false,
        scratchDir,
        runner,
        signal: new AbortController().signal,
        ...more,
      }),
  };
}

const objectsOf = ({ dir }: TestRepo): readonly string[] =>
  readdirSync(join(dir, '.git', 'objects'), { recursive: true, encoding: 'utf8' }).toSorted();

test('a branch comes whole, with nothing else', async (t) => {
  const { host, guest, fetch, scratchDir } = await place(t);
  const before = gitFingerprint(host.dir);
  const fetched = await fetch();
  assert.equal(fetched.commit, (await guest.git('rev-parse', 'HEAD')).trim());
  assert.deepEqual([fetched.oldCommit, fetched.commits, fetched.dir], [null, 1, host.dir]);
  const names = [...gitFingerprint(host.dir).keys()].filter((name) => !before.has(name));
  assert.deepEqual(names.toSorted(), ['logs/refs/heads/from/guest', 'refs/heads/from/guest']);
  assert.equal(await host.git('fsck', '--no-dangling'), '');
  assert.equal((await host.git('rev-list', '--count', 'from/guest')).trim(), '5');
  const packs = objectsOf(host).filter((name) => name.startsWith('pack/'));
  assert.match(packs.join(), /^pack\/pack-\w+\.idx,pack\/pack-\w+\.pack$/);
  const modes = [...packs.map((name) => `objects/${name}`), 'refs/heads/from/guest'].map(
    (name) => statSync(join(host.dir, '.git', name)).mode & 0o777,
  );
  assert.deepEqual(modes, [0o440, 0o440, 0o640]);
  assert.deepEqual(readdirSync(scratchDir), []);
  const again = await fetch();
  assert.deepEqual([again.commit, again.oldCommit], [fetched.commit, fetched.commit]);
});

test('what is refused leaves no object', async (t) => {
  const { host, guest, fetch } = await place(t);
  await fetch();
  await guest.git('commit', '--quiet', '--amend', '-m', 'another');
  const before = objectsOf(host);
  await assert.rejects(fetch(), { code: 'already_exists', message: /has commits that the VM's has not/ });
  assert.deepEqual(objectsOf(host), before);
  await assert.rejects(fetch({ branch: 'main' }), { code: 'in_use' });
  const forced = await fetch({ force: true });
  assert.equal(forced.commit, (await guest.git('rev-parse', 'HEAD')).trim());
  await assert.rejects(fetch({ source: 'refs/heads/none' }), { code: 'guest_failed' });
});

test('a history that begins where the host has nothing is refused', async (t) => {
  const { host, fetch } = await place(t, await smallRepo(t));
  const before = objectsOf(host);
  await assert.rejects(fetch(), { code: 'guest_failed', message: /begins at commits that this repository/ });
  assert.deepEqual(objectsOf(host), before);
});

test('a full disk: no branch, and nothing is left', { skip: process.getuid?.() !== 0 }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'banger-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=700,size=2m', 'none', dir]);
  t.after(() => {
    execFileSync('umount', ['--lazy', dir]);
    rmdirSync(dir);
  });
  const { host: source, guest, fetch } = await place(t);
  const host = await initRepo(join(dir, 'repo'));
  await host.git('fetch', '--quiet', source.dir, 'main:refs/heads/copy');
  guest.write('large', Buffer.from(Array.from({ length: 4_000_000 }, () => Math.floor(Math.random() * 256))));
  await guest.commit('large');
  const before = objectsOf(host);
  await assert.rejects(fetch({ dir: host.dir }), { code: 'no_space' });
  assert.deepEqual(objectsOf(host), before);
  assert.equal((await host.git('for-each-ref', '--format=%(refname)')).trim(), 'refs/heads/copy');
});
