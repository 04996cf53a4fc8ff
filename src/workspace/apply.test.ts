import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { applyTo, copyToGuest, type GuestCopy } from '../../test/helpers/guest-copy.ts';
import { contentsOf, runner, smallRepo, type TestRepo, temporaryDir } from '../../test/helpers/host-repo.ts';
import { gitFingerprint } from '../../test/helpers/local-guest.ts';
import { THOROUGH } from '../../test/helpers/thorough.ts';
import { displayPath } from './byte-path.ts';

async function pair(t: TestContext, more?: (host: TestRepo) => void): Promise<[TestRepo, GuestCopy]> {
  const host = await smallRepo(t);
  host.write('lines', 'one\ntwo\nthree\nfour\nfive\nsix\nseven\n');
  host.write('dir/sub/deep');
  more?.(host);
  await host.commit();
  return [host, copyToGuest(host, await temporaryDir(t))];
}

const read = (repo: TestRepo, path: string): string => readFileSync(join(repo.dir, path), 'latin1');

test('edits, additions, deletions, renames, modes, links and commits reach the host', async (t) => {
  const [host, guest] = await pair(t);
  const repo = guest.repo;
  repo.write('new dir/ünï\nname', Buffer.from([0, 1, 255]));
  await repo.commit('in the guest');
  repo.write('lines', 'one\n2\nthree\nfour\nfive\nsix\nseven\n');
  unlinkSync(join(repo.dir, 'dir/sub/deep'));
  rmSync(join(repo.dir, 'dir'), { recursive: true });
  renameSync(join(repo.dir, 'src/main.ts'), join(repo.dir, 'src/renamed.ts'));
  chmodSync(join(repo.dir, 'run.sh'), 0o644);
  repo.write('tool', '#!/bin/sh\n', 0o755);
  unlinkSync(join(repo.dir, 'readme.md'));
  symlinkSync('tool', join(repo.dir, 'readme.md'));
  const before = gitFingerprint(host.dir);
  const objects = readdirSync(join(host.dir, '.git/objects'), { recursive: true }).length;
  const tried = await applyTo(guest, host.dir, { dryRun: true });
  assert.equal(tried.applied, false);
  assert(existsSync(join(host.dir, 'dir/sub/deep')));
  const applied = await applyTo(guest, host.dir);
  assert.equal(applied.applied, true);
  assert.deepEqual(applied.conflicts, []);
  assert.deepEqual(applied.changes, tried.changes);
  assert.equal(applied.changes.length, 8);
  assert.deepEqual(contentsOf(host.dir), contentsOf(repo.dir));
  assert(!existsSync(join(host.dir, 'dir')), 'a directory that became empty goes');
  assert.deepEqual(gitFingerprint(host.dir), before);
  assert.equal(readdirSync(join(host.dir, '.git/objects'), { recursive: true }).length, objects);
  assert.deepEqual((await applyTo(guest, host.dir)).changes, []);
});

test('changes of both sides are merged, also where the host has not committed or added them', async (t) => {
  const [host, guest] = await pair(t, (repo) => repo.write('moved', 'long line\n'.repeat(20)));
  guest.repo.write('lines', 'ONE\ntwo\nthree\nfour\nfive\nsix\nseven\n');
  renameSync(join(guest.repo.dir, 'moved'), join(guest.repo.dir, 'moved here'));
  host.write('lines', 'one\ntwo\nthree\nfour\nfive\nsix\nSEVEN\n');
  host.write('moved', `${'long line\n'.repeat(20)}and one of the host\n`);
  host.write('untracked');
  host.write('staged');
  await host.git('add', 'staged');
  const applied = await applyTo(guest, host.dir, {
    base: { headCommit: guest.headCommit, tree: guest.shipped.tree, includeUntracked: false },
  });
  assert.deepEqual(applied.conflicts, []);
  assert.equal(read(host, 'lines'), 'ONE\ntwo\nthree\nfour\nfive\nsix\nSEVEN\n');
  assert.match(read(host, 'moved here'), /and one of the host\n$/);
  assert(!existsSync(join(host.dir, 'moved')));
  assert.equal(read(host, 'untracked'), 'untracked\n');
  assert.match(await host.git('status', '--porcelain'), /^A {2}staged$/m);
});

test('conflicts: nothing is written, unless with markers', async (t) => {
  const [host, guest] = await pair(t);
  guest.repo.write('lines', 'one\ntwo\nguest\nfour\nfive\nsix\nseven\n');
  guest.repo.write('fine');
  unlinkSync(join(guest.repo.dir, 'run.sh'));
  guest.repo.write('both', 'of the guest\n');
  host.write('lines', 'one\ntwo\nhost\nfour\nfive\nsix\nseven\n');
  host.write('run.sh', '#!/bin/sh\nof the host\n', 0o755);
  host.write('both', 'of the host, not tracked\n');
  const before = contentsOf(host.dir);
  const refused = await applyTo(guest, host.dir, {
    base: { headCommit: guest.headCommit, tree: guest.shipped.tree, includeUntracked: false },
  });
  assert.equal(refused.applied, false);
  assert.deepEqual(
    refused.conflicts.map(({ path, why }) => `${path}: ${why}`),
    ['both: contents', 'lines: contents', 'run.sh: modify/delete'],
  );
  assert.deepEqual(contentsOf(host.dir), before);
  const marked = await applyTo(guest, host.dir, { conflictMarkers: true });
  assert.equal(marked.applied, true);
  assert.equal(
    read(host, 'lines'),
    'one\ntwo\n<<<<<<< host\nhost\n=======\nguest\n>>>>>>> guest\nfour\nfive\nsix\nseven\n',
  );
  assert.equal(read(host, 'fine'), 'fine\n');
  assert.match(read(host, 'run.sh'), /of the host/);
  assert.match(read(host, 'both'), /of the host, not tracked\n=======\nof the guest\n/);
});

test('what the host has and git does not show: ignored, assumed unchanged, left out by a sparse checkout', async (t) => {
  const [host, guest] = await pair(t, (repo) => repo.write('.gitignore', 'ignored\n'));
  guest.repo.write('.gitignore', '');
  guest.repo.write('ignored', 'of the guest\n');
  guest.repo.write('readme.md', 'of the guest\n');
  host.write('ignored', 'of the host\n');
  const before = contentsOf(host.dir);
  await assert.rejects(applyTo(guest, host.dir), {
    code: 'invalid_state',
    message: /^ignored is in the way/,
  });
  assert.deepEqual(contentsOf(host.dir), before);
  unlinkSync(join(host.dir, 'ignored'));
  host.write('readme.md', 'hidden change of the host\n');
  await host.git('update-index', '--assume-unchanged', 'readme.md');
  const conflict = await applyTo(guest, host.dir);
  assert.deepEqual(
    conflict.conflicts.map(({ path }) => path),
    ['readme.md'],
  );
  unlinkSync(join(host.dir, 'lines'));
  await host.git('update-index', '--skip-worktree', 'lines');
  guest.repo.write('readme.md', 'hello\n');
  const applied = await applyTo(guest, host.dir);
  assert.deepEqual(applied.changes.map(({ path }) => path).toSorted(), ['.gitignore', 'ignored']);
  assert.equal(read(host, 'readme.md'), 'hidden change of the host\n');
  assert(!existsSync(join(host.dir, 'lines')));
});

test('a file that changes while it is merged stays, and is named; the next run merges it', async (t) => {
  const [host, guest] = await pair(t);
  guest.repo.write('readme.md', 'of the guest\n');
  guest.repo.write('src/main.ts', 'of the guest\n');
  let merged = false;
  const interfering: typeof runner = {
    run: async (argv, options) => {
      const result = await runner.run(argv, options);
      if (argv.includes('checkout-index')) {
        merged = true;
        host.write('src/main.ts', 'saved just now\n');
      }
      return result;
    },
  };
  const before = contentsOf(host.dir);
  await assert.rejects(applyTo(guest, host.dir, { runner: interfering }), {
    code: 'invalid_state',
    message: /^src\/main.ts has changed while it was being merged/,
  });
  assert(merged);
  assert.equal(read(host, 'src/main.ts'), 'saved just now\n');
  assert.equal(contentsOf(host.dir).get('readme.md'), before.get('readme.md'));
  assert.deepEqual(
    readdirSync(host.dir).filter((name) => name.includes('tmp')),
    [],
  );
  assert.equal((await applyTo(guest, host.dir)).conflicts[0]?.path, 'src/main.ts');
});

test('a link where a directory was is not followed', async (t) => {
  const [host, guest] = await pair(t);
  const outside = await temporaryDir(t);
  writeFileSync(join(outside, 'main.ts'), 'outside');
  guest.repo.write('src/main.ts', 'of the guest\n');
  guest.repo.write('src/new', 'of the guest\n');
  rmSync(join(host.dir, 'src'), { recursive: true });
  symlinkSync(outside, join(host.dir, 'src'));
  const applied = await applyTo(guest, host.dir);
  assert.equal(applied.applied, false);
  assert(applied.conflicts.length > 0);
  await applyTo(guest, host.dir, { conflictMarkers: true }).catch(() => undefined);
  assert.deepEqual(readdirSync(outside), ['main.ts']);
  assert.equal(readFileSync(join(outside, 'main.ts'), 'latin1'), 'outside');
  // And one that comes between merging and writing.
  const [other, copy] = await pair(t);
  copy.repo.write('src/main.ts', 'of the guest\n');
  const swapping: typeof runner = {
    run: async (argv, options) => {
      const result = await runner.run(argv, options);
      if (argv.includes('checkout-index')) {
        renameSync(join(other.dir, 'src'), join(other.dir, 'elsewhere'));
        symlinkSync('elsewhere', join(other.dir, 'src'));
      }
      return result;
    },
  };
  await assert.rejects(applyTo(copy, other.dir, { runner: swapping }), { code: 'invalid_state' });
  assert.equal(read(other, 'elsewhere/main.ts'), 'export {};\n');
});

test('files become directories and directories files', async (t) => {
  const [host, guest] = await pair(t, (repo) => repo.write('was file'));
  const { repo } = guest;
  unlinkSync(join(repo.dir, 'was file'));
  repo.write('was file/inner');
  rmSync(join(repo.dir, 'dir'), { recursive: true });
  symlinkSync('src', join(repo.dir, 'dir'));
  const applied = await applyTo(guest, host.dir);
  assert.deepEqual(applied.conflicts, []);
  assert.deepEqual(contentsOf(host.dir), contentsOf(repo.dir));
  assert.equal(readlinkSync(join(host.dir, 'dir')), 'src');
});

test('a directory with files that git does not know of is not removed for a file', async (t) => {
  const [host, guest] = await pair(t, (repo) => repo.write('.gitignore', '*.o\n'));
  rmSync(join(guest.repo.dir, 'dir'), { recursive: true });
  guest.repo.write('dir', 'a file now\n');
  host.write('dir/sub/made.o', 'mine');
  await assert.rejects(applyTo(guest, host.dir), { code: 'invalid_state', message: /dir\/sub\/made\.o/ });
  assert.equal(read(host, 'dir/sub/deep'), 'dir/sub/deep\n');
});

test('line ends are those of a checkout; modes follow the umask, and those that were chosen stay', async (t) => {
  const [host, guest] = await pair(t, (repo) => repo.write('.gitattributes', '*.bat text eol=crlf\n'));
  guest.repo.write('new.bat', 'one\r\ntwo\r\n');
  guest.repo.write('tool', 'x', 0o755);
  guest.repo.write('readme.md', 'changed\n');
  chmodSync(join(host.dir, 'readme.md'), 0o600);
  await host.git('config', 'filter.evil.smudge', 'false');
  await host.git('config', 'filter.evil.required', 'true');
  guest.repo.write('.gitattributes', '*.bat text eol=crlf\nfiltered filter=evil\n');
  guest.repo.write('filtered');
  await applyTo(guest, host.dir, { umask: 0o027 });
  assert.equal(read(host, 'new.bat'), 'one\r\ntwo\r\n');
  assert.equal(read(host, 'filtered'), 'filtered\n');
  const modes = ['new.bat', 'tool', 'readme.md'].map((path) => statSync(join(host.dir, path)).mode & 0o777);
  assert.deepEqual(modes, [0o640, 0o750, 0o600]);
});

test('another clone, one that has none of the history', async (t) => {
  const [host, guest] = await pair(t);
  const other = await smallRepo(t);
  other.write('lines', read(host, 'lines'));
  other.write('dir/sub/deep');
  await other.git('commit', '--quiet', '--allow-empty', '--amend', '-m', 'unrelated');
  await other.commit();
  guest.repo.write('lines', 'changed\n');
  await applyTo(guest, other.dir);
  assert.equal(read(other, 'lines'), 'changed\n');
});

test('objects that are not what they should be are refused', async (t) => {
  const [host, guest] = await pair(t);
  const { repo } = guest;
  const evil = (...entries: string[]): Promise<string> =>
    runner
      .run(['git', '-C', repo.dir, 'mktree', '--missing'], { input: entries.join('\n') })
      .then(({ stdout }) => stdout.toString().trim());
  const blob = (await repo.git('rev-parse', 'HEAD:readme.md')).trim();
  const inner = await evil(`100644 blob ${blob}\tconfig`);
  const before = contentsOf(host.dir);
  for (const [tree, pattern] of [
    [await evil(`040000 tree ${inner}\t.git`), /hasDotgit|git refuses/],
    [await evil(`040000 tree ${inner}\t..`), /hasDotdot|git refuses/],
    [await evil(`100644 blob ${'1'.repeat(40)}\tmissing`), /git refuses|git failed/],
  ] as const) {
    repo.write('readme.md', `${tree}\n`);
    const run = guest.programs.run.bind(guest.programs);
    guest.programs.run = async (program, limits) => {
      const result = await run(program, limits);
      return program.argv.includes('write-tree') ? { ...result, stdout: Buffer.from(`${tree}\n`) } : result;
    };
    await assert.rejects(applyTo(guest, host.dir), pattern, displayPath(tree));
    guest.programs.run = run;
  }
  assert.deepEqual(contentsOf(host.dir), before);
});

test('cancelled at any step, no file is half written, and the next run ends what it began', async (t) => {
  const [host, guest] = await pair(t);
  const { repo } = guest;
  repo.write('lines', 'one\n2\nthree\nfour\nfive\nsix\nseven\n');
  repo.write('new/file');
  rmSync(join(repo.dir, 'dir'), { recursive: true });
  repo.write('dir', 'file now\n');
  const wanted = contentsOf(repo.dir);
  const start = contentsOf(host.dir);
  const scratch = join(guest.scratchPath, '..', 'host-scratch');
  mkdirSync(scratch);
  let written = 0;
  for (let step = 1; ; step += THOROUGH ? 1 : 3) {
    const controller = new AbortController();
    let at = 0;
    const onStep = (): void => {
      at += 1;
      if (at === step) controller.abort();
    };
    const counting: typeof runner = {
      run: (argv, options) => {
        onStep();
        return runner.run(argv, options);
      },
    };
    let writing = false;
    const beforeRun = contentsOf(host.dir);
    const ran = await applyTo(guest, host.dir, {
      runner: counting,
      signal: controller.signal,
      onProgress: (text) => {
        writing = text === 'writing files';
        if (writing) onStep();
      },
    }).catch((error: { code?: string }) => error.code);
    assert.deepEqual(readdirSync(scratch), [], `step ${step}`);
    const files = contentsOf(host.dir);
    for (const [path, what] of files) {
      assert(what === start.get(path) || what === wanted.get(path), `step ${step}: ${path}`);
    }
    if (writing) written += 1;
    else if (typeof ran !== 'object') assert.deepEqual(files, beforeRun, `step ${step}`);
    if (typeof ran === 'object') break;
    assert.equal(ran, 'cancelled', `step ${step}`);
  }
  assert(written > 0, `${written} steps while writing`);
  assert.deepEqual(contentsOf(host.dir), wanted);
  assert.deepEqual(
    readdirSync(host.dir).filter((name) => name.includes('tmp')),
    [],
  );
});

test('what a killed one left in the working tree is swept', async (t) => {
  const [host, guest] = await pair(t);
  const left = join(host.dir, '.banger.tmp-4194300-1-0123456789ab');
  mkdirSync(join(left, 'files'), { recursive: true });
  writeFileSync(join(left, 'files', 'half'), 'h');
  writeFileSync(join(host.dir, '.other.tmp-4194300-1-0123456789ab'), 'not of ours');
  guest.repo.write('new');
  await applyTo(guest, host.dir);
  assert(!existsSync(left));
  assert(lstatSync(join(host.dir, '.other.tmp-4194300-1-0123456789ab')).isFile());
});
