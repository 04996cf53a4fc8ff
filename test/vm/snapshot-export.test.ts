/** Snapshots carried from one banger to another, as a file and through a pipe. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { VmSnapshotExported, VmSnapshotView } from '../../src/api/results/snapshot.ts';
import { initRepo, type TestRepo } from '../helpers/host-repo.ts';
import { BANGER, settled, TestHome } from '../helpers/test-home.ts';

/** Counts in a file for as long as it lives, detached. */
const COUNTER =
  'nohup sh -c "i=0; while :; do i=\\$((i+1)); echo \\$i > /dev/shm/count; sleep 0.05; done" >/dev/null 2>&1 &';

describe('vm snapshot export and import', () => {
  let here: TestHome;
  let there: TestHome;
  let file: string;
  let repo: TestRepo;

  before(async () => {
    here = TestHome.warm();
    there = new TestHome();
    file = join(here.dir, 'dev.snap');
    // Its files are there already: it is only registered.
    await there.ok(['image', 'build', 'debian-bookworm']);
    repo = await initRepo(join(here.dir, 'project'));
    repo.write('file', 'one\n');
    await repo.commit();
    await here.ok(['vm', 'run', '-d', '--name', 'dev', '--memory', '512M', repo.dir]);
    await here.guest('dev', 'sh', '-c', 'echo on the disk > /root/file; sync');
    await here.guest('dev', 'sh', '-c', COUNTER);
    await here.ok(['vm', 'snapshot', 'create', 'dev']);
    await here.ok(['vm', 'snapshot', 'create', 'dev', '--disk-only', '--name', 'disk']);
    await here.ok(['vm', 'kill', 'dev']);
  });
  after(async () => {
    await here[Symbol.asyncDispose]();
    await there[Symbol.asyncDispose]();
  });

  const snapshotFiles = (home: TestHome): readonly string[] => {
    const dir = join(home.dir, 'state', 'vm-snapshots');
    return existsSync(dir) ? readdirSync(dir) : [];
  };
  const names = async (home: TestHome): Promise<readonly string[]> => {
    const { snapshots } = await home.json<{ snapshots: readonly VmSnapshotView[] }>([
      'vm',
      'snapshot',
      'list',
    ]);
    return snapshots.map(({ name }) => name);
  };

  /** The file names a directory that is here: nothing of it is read or written until somebody else names it. */
  const assertOfNoRepository = async (vm: string): Promise<void> => {
    repo.write('file', 'two\n');
    await there.guest(vm, 'sh', '-c', 'echo three > new');
    assert.equal((await there.show(vm)).workspace?.sourcePath, null);
    for (const args of [
      ['prepare', vm],
      ['export', vm, '--apply'],
      ['export', vm, '--branch', 'theirs'],
    ]) {
      const { stderr } = await there.run(['vm', 'workspace', ...args]);
      assert.match(stderr, /came with an imported snapshot.*\n.*banger vm workspace prepare booted PATH/);
    }
    const status = await there.ok(['vm', 'workspace', 'status', vm]);
    assert.match(status, /not known here at .*\nsay of which it is: .*\n\n.*\n.*new/);
    const other = await initRepo(join(there.dir, 'other'));
    other.write('file', 'other\n');
    await other.commit('another');
    const refused = await there.run(['vm', 'workspace', 'prepare', vm, other.dir]);
    assert.match(
      refused.stderr,
      /other has not the commit [0-9a-f]+ that the copy in VM "booted" was made from/,
    );
    assert.equal((await there.show(vm)).workspace?.sourcePath, null);
    await there.ok(['vm', 'workspace', 'prepare', vm, repo.dir]);
    assert.equal(await there.guest(vm, 'cat', 'file', 'new'), 'two\nthree');
    await there.ok(['vm', 'workspace', 'export', vm, '--apply']);
    assert.equal(readFileSync(join(repo.dir, 'new'), 'utf8'), 'three\n');
  };

  test('one file, closed to others, the same every time, never written over unasked', async () => {
    const exported = await here.json<VmSnapshotExported>(['vm', 'snapshot', 'export', 'dev-1', file]);
    const { size, mode, blocks } = statSync(file);
    assert.deepEqual([exported.bytes, exported.path, mode & 0o777], [size, file, 0o600]);
    assert.ok(
      size < exported.dataBytes && blocks * 512 < 1024 ** 3,
      `${size} of ${exported.dataBytes} bytes`,
    );
    const first = readFileSync(file);
    const refused = await here.run(['vm', 'snapshot', 'export', 'dev-1', file]);
    assert.deepEqual([refused.status, refused.stderr.split('\n')[0]], [1, `banger: ${file} exists already`]);
    await here.ok(['vm', 'snapshot', 'export', 'dev-1', file, '--force']);
    assert.ok(readFileSync(file).equals(first), 'another file');
    const piped = await here.run(['vm', 'snapshot', 'export', 'dev-1', '-']);
    assert.equal(piped.status, 0, piped.stderr);
    assert.ok(piped.stdout.equals(first), 'another stream');
    assert.deepEqual(
      readdirSync(here.dir).filter((name) => name.includes('.snap')),
      ['dev.snap'],
    );
  });

  test('elsewhere: needs trust; then a fork goes on with its programs and its files', async () => {
    const untrusted = await there.run(['vm', 'snapshot', 'import', file]);
    assert.match(untrusted.stderr, /has memory and device state.*\n--trust/);
    assert.deepEqual(snapshotFiles(there), []);
    assert.equal(
      await there.ok(['vm', 'snapshot', 'import', file, '--trust', '--name', 'theirs']),
      'theirs\n',
    );
    const again = await there.run(['vm', 'snapshot', 'import', file, '--trust', '--name', 'theirs']);
    assert.match(again.stderr, /^banger: there is a snapshot "theirs"\n/);
    const restore = await there.run(['vm', 'snapshot', 'restore', 'theirs']);
    assert.match(restore.stderr, /was imported: its VM is not here\nbanger vm fork --snapshot theirs /);

    await there.ok(['vm', 'fork', '--snapshot', 'theirs', '--name', 'copy']);
    const count = Number(await there.guest('copy', 'cat', '/dev/shm/count'));
    assert.ok(count > 0);
    await settled(async () => Number(await there.guest('copy', 'cat', '/dev/shm/count')) > count);
    assert.ok(Number(await there.guest('copy', 'cat', '/dev/shm/count')) > count, 'it does not go on');
    assert.equal(await there.guest('copy', 'cat', '/root/file'), 'on the disk');
    await there.ok(['vm', 'kill', 'copy']);
    await there.ok(['vm', 'snapshot', 'delete', 'theirs']);
  });

  test('a disk, through a pipe, without trust; and back into the home it came from', async () => {
    const [from, to] = [
      spawn(BANGER, ['vm', 'snapshot', 'export', 'disk', '-'], {
        env: here.env,
        stdio: ['ignore', 'pipe', 'inherit'],
      }),
      there.start(['vm', 'snapshot', 'import', '-', '--json'], { keepInput: true }),
    ];
    from.stdout.pipe(to.child.stdin);
    const { status, stdout, stderr } = await to.done;
    assert.equal(status, 0, stderr);
    const view = JSON.parse(stdout.toString()) as VmSnapshotView;
    assert.deepEqual(
      [view.name, view.imported, view.withMemory, view.vm.exists],
      ['disk', true, false, false],
    );
    await there.ok(['vm', 'fork', '--snapshot', 'disk', '--name', 'booted']);
    assert.equal(await there.guest('booted', 'cat', '/root/file'), 'on the disk');
    await assertOfNoRepository('booted');
    await there.ok(['vm', 'kill', 'booted']);

    const disk = join(here.dir, 'disk.snap');
    await here.ok(['vm', 'snapshot', 'export', 'disk', disk]);
    const own = await here.json<VmSnapshotView>(['vm', 'snapshot', 'import', disk, '--name', 'back']);
    assert.deepEqual([own.vm.name, own.vm.exists], ['dev', false]);
  });

  test('damaged, cut off, or given up on the way: nothing is left', async () => {
    const before = { files: snapshotFiles(there), names: await names(there) };
    const bytes = readFileSync(file);
    const broken = join(here.dir, 'broken.snap');
    const flipped = Buffer.from(bytes);
    flipped[flipped.length >> 1] = (flipped[flipped.length >> 1] ?? 0) ^ 1;
    writeFileSync(broken, flipped);
    const damaged = await there.run(['vm', 'snapshot', 'import', broken, '--trust', '--name', 'x']);
    assert.match(damaged.stderr, /^banger: the exported snapshot is damaged: /);
    truncateSync(broken, bytes.length - 1);
    const cut = await there.run(['vm', 'snapshot', 'import', broken, '--trust', '--name', 'x', '--json']);
    assert.equal((JSON.parse(cut.stderr) as { error: { code: string } }).error.code, 'verify_failed');

    const waiting = there.start(['vm', 'snapshot', 'import', '-', '--trust', '--name', 'x'], {
      keepInput: true,
    });
    waiting.child.stdin.write(bytes.subarray(0, bytes.length >> 1));
    await settled(() => snapshotFiles(there).length > before.files.length);
    assert.ok(snapshotFiles(there).length > before.files.length, 'it did not begin');
    waiting.child.kill('SIGINT');
    assert.equal((await waiting.done).status, 130);
    await settled(() => snapshotFiles(there).length === before.files.length);
    assert.deepEqual({ files: snapshotFiles(there), names: await names(there) }, before);
  });

  test('two at once with one name: one is taken', async () => {
    const disk = join(here.dir, 'disk.snap');
    const runs = await Promise.all(
      [1, 2].map(() => there.run(['vm', 'snapshot', 'import', disk, '--name', 'twin'])),
    );
    assert.deepEqual(
      runs.map(({ status }) => status).toSorted((a, b) => (a ?? 0) - (b ?? 0)),
      [0, 1],
    );
    assert.match(runs.map(({ stderr }) => stderr).join(''), /^banger: there is a snapshot "twin"\n/);
    assert.equal((await names(there)).filter((name) => name === 'twin').length, 1);
  });

  test('Ctrl-C during an export: no file; a snapshot that is deleted meanwhile is exported all the same', async () => {
    const given = join(here.dir, 'given-up.snap');
    const running = here.start(['vm', 'snapshot', 'export', 'dev-1', given]);
    await settled(() => readdirSync(here.dir).some((name) => name.includes('given-up')));
    running.child.kill('SIGINT');
    assert.equal((await running.done).status, 130);
    assert.deepEqual(
      readdirSync(here.dir).filter((name) => name.includes('given-up')),
      [],
    );
    const held = here.start(['vm', 'snapshot', 'export', 'dev-1', '-'], { holdOutput: true });
    await new Promise((resolve) => held.child.stdout.once('readable', resolve));
    await here.ok(['vm', 'snapshot', 'delete', 'dev-1']);
    const chunks: Buffer[] = [];
    held.child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    assert.equal((await held.done).status, 0);
    assert.ok(Buffer.concat(chunks).equals(readFileSync(file)), 'another stream');
  });
});
