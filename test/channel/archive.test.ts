/** UNPACK and PACK of the real agent, in a process instead of a machine, against the host's side of them. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { AgentClient } from '../../src/guest/agent-client.ts';
import type { ArchiveRecord } from '../../src/guest/archive/records.ts';
import { ArchiveConflicts } from '../../src/guest/archive/transfer.ts';
import { run } from '../../src/guest/run.ts';
import { AgentHost } from '../helpers/agent-host.ts';
import { caseDirectories } from '../helpers/case-directories.ts';

const MTIME_NS = 1_600_000_000_123_456_789n;
const BEFORE_1970_NS = -1_500_000_001n;
const LIMITS = { maxRecords: 10_000, maxDataBytes: 100_000_000 };
const MIB = 1024 * 1024;

let host: AgentHost;
let agent: AgentClient;
/** Of one test. */
let root: string;
let base: string;

before(async () => {
  host = await AgentHost.start();
  agent = await host.connect();
});

caseDirectories('archive', async (dir) => {
  root = dir;
  base = join(dir, 'base');
  await mkdir(base);
});

after(async () => {
  agent?.close();
  await host?.[Symbol.asyncDispose]();
});

function fileOf(
  path: string,
  content: Uint8Array | string,
  mode = 0o644,
  mtimeNs = MTIME_NS,
): ArchiveRecord[] {
  const bytes = Buffer.from(content);
  const records: ArchiveRecord[] = [
    { kind: 'file', path: Buffer.from(path), mode, mtimeNs, sizeBytes: bytes.length },
  ];
  if (bytes.length > 0) records.push({ kind: 'data', offset: 0, bytes });
  records.push({ kind: 'fileEnd', sizeBytes: bytes.length });
  return records;
}

function directoryOf(path: string, mode = 0o755): ArchiveRecord {
  return { kind: 'directory', path: Buffer.from(path), mode, mtimeNs: MTIME_NS };
}

function linkOf(path: string, target: string): ArchiveRecord {
  return { kind: 'symlink', path: Buffer.from(path), target: Buffer.from(target), mtimeNs: MTIME_NS };
}

function deleteOf(path: string, deleteEmptyParents = false): ArchiveRecord {
  return { kind: 'delete', path: Buffer.from(path), deleteEmptyParents };
}

function checkOf(path: string, isShipped: boolean): ArchiveRecord {
  return { kind: 'check', path: Buffer.from(path), isShipped };
}

async function packed(paths: readonly string[], options: { follow?: boolean; entryOnly?: boolean } = {}) {
  const records: ArchiveRecord[] = [];
  for await (const record of agent.pack({ base, paths, ...options }, LIMITS)) {
    records.push(record.kind === 'data' ? { ...record, bytes: Buffer.from(record.bytes) } : record);
  }
  return records;
}

function pathsOf(records: readonly ArchiveRecord[]): string[] {
  return records.flatMap((record) =>
    'path' in record ? [`${record.kind} ${record.path.toString('latin1')}`] : [],
  );
}

async function conflictsOf(records: readonly ArchiveRecord[], upper?: string): Promise<string[]> {
  const error: unknown = await agent.unpack({ base, upper, marksShipped: true }, records).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error === undefined) return [];
  if (!(error instanceof ArchiveConflicts)) throw error;
  return error.conflicts.map((conflict) => `${conflict.reason} ${conflict.path.toString()}`);
}

test('files, directories and links appear as they were sent, and nothing else does', async () => {
  const large = randomBytes(3 * MIB + 17);
  await agent.unpack({ base: join(base, 'made/below') }, [
    ...fileOf('a', 'hello', 0o640),
    ...fileOf('deep/er/empty', '', 0o4755, BEFORE_1970_NS),
    ...fileOf('large', large),
    ...fileOf('new\nline \u{1f600}', 'x'),
    linkOf('deep/link', '../../../etc/passwd'),
    linkOf('dangling', 'nowhere'),
    directoryOf('deep/er', 0o500),
    directoryOf('deep', 0o2700),
  ]);
  const at = join(base, 'made/below');
  assert.equal(await readFile(join(at, 'a'), 'utf8'), 'hello');
  assert((await readFile(join(at, 'large'))).equals(large));
  assert.deepEqual((await readdir(at)).sort(), ['a', 'dangling', 'deep', 'large', 'new\nline \u{1f600}']);
  assert.equal(await readlink(join(at, 'deep/link')), '../../../etc/passwd');
  const modes: [string, number, bigint][] = [
    ['a', 0o640, MTIME_NS],
    ['deep/er/empty', 0o4755, BEFORE_1970_NS],
    ['deep/er', 0o500, MTIME_NS],
    ['deep', 0o2700, MTIME_NS],
  ];
  for (const [path, mode, mtimeNs] of modes) {
    const status = await lstat(join(at, path), { bigint: true });
    assert.equal(Number(status.mode & 0o7777n), mode, path);
    assert.equal(status.mtimeNs, mtimeNs, path);
  }
  assert.equal((await lstat(join(at, 'dangling'), { bigint: true })).mtimeNs, MTIME_NS);
});

test('what was there is replaced, a directory only when it was deleted before', async () => {
  await mkdir(join(base, 'dir/sub'), { recursive: true });
  await writeFile(join(base, 'file'), 'old');
  await symlink('file', join(base, 'link'));
  await agent.unpack({ base }, [...fileOf('file', 'new'), ...fileOf('link', 'a file now')]);
  assert.equal(await readFile(join(base, 'file'), 'utf8'), 'new');
  assert.equal((await lstat(join(base, 'link'))).isFile(), true);
  await assert.rejects(agent.unpack({ base }, fileOf('dir', 'x')), { code: 'guest_failed', message: /dir/ });
  await assert.rejects(agent.unpack({ base }, [directoryOf('file')]), { code: 'guest_failed' });
  await agent.unpack({ base }, [
    deleteOf('dir'),
    ...fileOf('dir', 'x'),
    deleteOf('file'),
    directoryOf('file'),
  ]);
  assert.equal(await readFile(join(base, 'dir'), 'utf8'), 'x');
  assert.equal((await lstat(join(base, 'file'))).isDirectory(), true);
  assert.deepEqual((await readdir(base)).sort(), ['dir', 'file', 'link']);
});

test('a directory that was there keeps its mode and time', async () => {
  await mkdir(join(base, 'there'), { mode: 0o700 });
  await agent.unpack({ base }, [
    directoryOf('there/new', 0o711),
    directoryOf('there', 0o777),
    directoryOf('fresh', 0o711),
  ]);
  assert.equal((await stat(join(base, 'there'))).mode & 0o7777, 0o700);
  assert.notEqual((await stat(join(base, 'there'), { bigint: true })).mtimeNs, MTIME_NS);
  for (const made of ['there/new', 'fresh'])
    assert.equal((await stat(join(base, made))).mode & 0o7777, 0o711);
  await agent.unpack({ base }, [directoryOf('fresh', 0o777)]);
  assert.equal((await stat(join(base, 'fresh'))).mode & 0o7777, 0o711);
});

test('no link below the base is followed', async () => {
  const outside = await mkdtemp(join(root, 'outside-'));
  await writeFile(join(outside, 'kept'), 'kept');
  await symlink(outside, join(base, 'out'));
  for (const records of [
    fileOf('out/x', 'x'),
    fileOf('out/kept', 'x'),
    [directoryOf('out/dir')],
    [directoryOf('out')],
    [linkOf('out/link', 'x')],
  ]) {
    await assert.rejects(agent.unpack({ base }, records), { code: 'guest_failed' });
  }
  await agent.unpack({ base }, [deleteOf('out/kept')]);
  assert.deepEqual(await readdir(outside), ['kept']);
  assert.equal(await readFile(join(outside, 'kept'), 'utf8'), 'kept');
  await assert.rejects(packed(['out/kept']), { code: 'guest_failed' });
  await agent.unpack({ base }, [deleteOf('out')]);
  assert.deepEqual(await readdir(outside), ['kept']);
});

test('deleting takes trees, and parents that became empty when asked', async () => {
  await mkdir(join(base, 'a/b/c'), { recursive: true });
  await writeFile(join(base, 'a/b/c/x'), '');
  await writeFile(join(base, 'a/b/c/y'), '');
  await mkdir(join(base, 'tree/of/things'), { recursive: true });
  await symlink('/', join(base, 'tree/root'));
  await agent.unpack({ base }, [deleteOf('a/b/c/x', true), deleteOf('tree'), deleteOf('missing/x')]);
  assert.deepEqual(await readdir(base), ['a']);
  await agent.unpack({ base }, [deleteOf('a/b/c/y')]);
  assert.deepEqual(await readdir(join(base, 'a/b')), ['c']);
  await agent.unpack({ base }, [deleteOf('a/b/c/y', true)]);
  assert.deepEqual(await readdir(base), []);
});

test('an archive that ends in a file leaves nothing of it', async () => {
  await writeFile(join(base, 'file'), 'old');
  async function* broken(): AsyncGenerator<ArchiveRecord> {
    yield { kind: 'file', path: Buffer.from('file'), mode: 0o644, mtimeNs: 0n, sizeBytes: 10 * MIB };
    yield { kind: 'data', offset: 0, bytes: randomBytes(MIB) };
    await agent.health();
    throw new Error('the source broke');
  }
  await assert.rejects(agent.unpack({ base }, broken()), { message: 'the source broke' });
  const giveUp = new AbortController();
  async function* endless(): AsyncGenerator<ArchiveRecord> {
    yield { kind: 'file', path: Buffer.from('file'), mode: 0o644, mtimeNs: 0n, sizeBytes: 2 ** 50 };
    for (let offset = 0; ; offset += 65536) {
      if (offset === 4 * MIB) giveUp.abort();
      yield { kind: 'data', offset, bytes: Buffer.alloc(65536, 1) };
    }
  }
  await assert.rejects(agent.unpack({ base }, endless(), giveUp.signal), {
    code: 'cancelled',
    message: 'cancelled',
  });
  assert.deepEqual(await readdir(base), ['file']);
  assert.equal(await readFile(join(base, 'file'), 'utf8'), 'old');
});

test('holes stay holes both ways', async () => {
  await agent.unpack({ base }, [
    { kind: 'file', path: Buffer.from('sparse'), mode: 0o600, mtimeNs: 0n, sizeBytes: 64 * MIB },
    { kind: 'data', offset: 32 * MIB, bytes: Buffer.from('middle') },
    { kind: 'fileEnd', sizeBytes: 64 * MIB },
  ]);
  const status = await stat(join(base, 'sparse'));
  assert.equal(status.size, 64 * MIB);
  assert(status.blocks * 512 < MIB, `${status.blocks} blocks`);
  const records = await packed(['sparse']);
  const data = records.filter((record) => record.kind === 'data');
  assert(data.reduce((sum, record) => sum + record.bytes.length, 0) < MIB);
  assert(data.some((record) => Buffer.from(record.bytes).includes('middle')));
  assert.deepEqual(records.at(-1), { kind: 'fileEnd', sizeBytes: 64 * MIB });
  await truncate(join(base, 'sparse'), 0);
  assert.deepEqual((await packed(['sparse'])).at(-1), { kind: 'fileEnd', sizeBytes: 0 });
});

test('a tree comes back as it is, each directory after what is in it', async () => {
  await mkdir(join(base, 'tree/empty'), { recursive: true });
  await writeFile(join(base, 'tree/file'), 'content', { mode: 0o755 });
  await symlink('/etc/passwd', join(base, 'tree/link'));
  await run(agent, { argv: ['mkfifo', join(base, 'tree/fifo')] }, { maxOutputBytes: 100 });
  await utimes(join(base, 'tree/file'), 1, 1_600_000_000.5);
  await chmod(join(base, 'tree'), 0o1777);
  const records = await packed(['tree']);
  assert.deepEqual(pathsOf(records).sort(), [
    'directory tree',
    'directory tree/empty',
    'file tree/file',
    'skipped tree/fifo',
    'symlink tree/link',
  ]);
  const last = records.at(-1);
  assert(last?.kind === 'directory' && last.path.toString() === 'tree' && last.mode === 0o1777);
  const file = records.find((record) => record.kind === 'file');
  assert(file?.mtimeNs === 1_600_000_000_500_000_000n && file.mode === 0o755 && file.sizeBytes === 7);
  await symlink('tree', join(base, 'top'));
  for (const follow of [false, true]) {
    const everything = [...pathsOf(records), 'symlink top'];
    assert.deepEqual(pathsOf(await packed([''], { follow })).sort(), everything.sort());
    assert.deepEqual(pathsOf(await packed(['tree'], { follow })).sort(), pathsOf(records).sort());
  }
  assert.deepEqual(pathsOf(await packed(['tree'], { entryOnly: true })), ['directory tree']);
  assert.deepEqual(pathsOf(await packed(['tree/link'])), ['symlink tree/link']);
  assert.deepEqual(pathsOf(await packed(['tree/link'], { follow: true })), ['file tree/link']);
  await assert.rejects(packed(['tree/missing']), { code: 'not_found', message: /tree\/missing/ });
});

test("the kernel's files have what reading them gives, and its trees stay away", async () => {
  base = '/';
  const records = await packed(['proc/version']);
  assert.equal(
    records.find((record) => record.kind === 'data')?.bytes.toString(),
    await readFile('/proc/version', 'utf8'),
  );
});

test('leaving a tree in the middle ends it', async () => {
  await writeFile(join(base, 'big'), randomBytes(8 * MIB));
  for await (const record of agent.pack({ base, paths: ['big'] }, LIMITS)) {
    if (record.kind === 'data') break;
  }
  // A round trip: the guest's answer to the reset has come before its.
  await agent.health();
  assert.equal(agent.openStreams, 0);
  await assert.rejects(
    async () => {
      for await (const _ of agent.pack({ base, paths: ['big'] }, { maxRecords: 1, maxDataBytes: MIB }))
        continue;
    },
    { code: 'guest_failed' },
  );
});

test('checks hold for what was shipped and nobody has changed', async (t) => {
  await agent.unpack({ base, marksShipped: true }, [
    ...['same', 'edited', 'touched', 'moded', 'gone', 'emptied', 'grown', 'dir/a', 'dir/b'].flatMap((path) =>
      fileOf(path, path),
    ),
    linkOf('link', 'same'),
  ]);
  if ((await conflictsOf([checkOf('same', true)])).length > 0) {
    t.skip('the file system of /tmp, or the user, cannot have marks');
    return;
  }
  await writeFile(join(base, 'edited'), 'EDITED');
  await utimes(join(base, 'touched'), 1, 1);
  await chmod(join(base, 'moded'), 0o600);
  await rm(join(base, 'gone'));
  await writeFile(join(base, 'own'), 'of the guest');
  // As after a loss of power: the time is what it was, what is in it is not.
  const { mtimeNs } = await stat(join(base, 'emptied'), { bigint: true });
  await truncate(join(base, 'emptied'), 0);
  await truncate(join(base, 'grown'), 100);
  for (const name of ['emptied', 'grown'])
    execFileSync('touch', [
      '--no-create',
      '-d',
      `@${mtimeNs / 1_000_000_000n}.${String(mtimeNs % 1_000_000_000n).padStart(9, '0')}`,
      join(base, name),
    ]);
  const checks = [
    'emptied',
    'grown',
    'same',
    'link',
    'edited',
    'touched',
    'moded',
    'gone',
    'dir',
    'dir/a',
  ].map((path) => checkOf(path, true));
  const own = ['own', 'absent', 'same/below', 'edited/below'].map((path) => checkOf(path, false));
  const expected = [
    'changed grown',
    'changed edited',
    'changed touched',
    'changed moded',
    'deleted gone',
    'exists own',
    'exists edited',
  ];
  assert.deepEqual(await conflictsOf([...checks, ...own, ...fileOf('same', 'never')]), expected);
  assert.equal(await readFile(join(base, 'same'), 'utf8'), 'same');
  await writeFile(join(base, 'dir/own'), '');
  assert.deepEqual(await conflictsOf([checkOf('dir', true)]), ['changed dir/own']);
  assert.deepEqual(await conflictsOf([checkOf('same', true), ...fileOf('same', 'again')]), []);
  assert.deepEqual(await conflictsOf([checkOf('same', true)]), []);
  assert.deepEqual((await readdir(base)).sort(), [
    'dir',
    'edited',
    'emptied',
    'grown',
    'link',
    'moded',
    'own',
    'same',
    'touched',
  ]);
});

test('what was moved is not what was shipped where it is now', async (t) => {
  const shipped = ['over', 'mover', 'new/a', 'new/b', 'old/a', 'old/b', 'kept'];
  await agent.unpack({ base, marksShipped: true }, [
    ...shipped.flatMap((path) => fileOf(path, path)),
    linkOf('link', 'x'),
    linkOf('other', 'y'),
  ]);
  if ((await conflictsOf([checkOf('kept', true)])).length > 0) {
    t.skip('the file system of /tmp, or the user, cannot have marks');
    return;
  }
  const move = (from: string, to: string): Promise<void> => rename(join(base, from), join(base, to));
  await move('mover', 'over');
  await move('other', 'link');
  await move('new/a', 'new/c');
  await move('old', 'lib');
  await move('kept', 'elsewhere');
  await move('elsewhere', 'kept');
  // As its owner would; all attributes go along.
  execFileSync('cp', ['-a', join(base, 'new/b'), join(base, 'new/d')]);
  const paths = ['over', 'link', 'new', 'kept'].map((path) => checkOf(path, true));
  const found = await conflictsOf([...paths, checkOf('lib', false)]);
  assert.deepEqual(found.sort(), [
    'changed link',
    'changed new/c',
    'changed new/d',
    'changed over',
    'exists lib/a',
    'exists lib/b',
  ]);
  // Sent again, as below another directory that became the base: the same paths.
  await agent.unpack({ base, marksShipped: true }, fileOf('over', 'again'));
  await rename(base, `${base}-placed`);
  base = `${base}-placed`;
  assert.deepEqual(await conflictsOf([checkOf('over', true), checkOf('new/b', true)]), []);
});

test('with an overlay, what is not in its upper directory is as it was shipped', async () => {
  const upper = await mkdtemp(join(root, 'upper-'));
  for (const path of ['low', 'high', 'dir/low', 'dir/high']) {
    await mkdir(join(base, 'dir'), { recursive: true });
    await writeFile(join(base, path), '');
  }
  await mkdir(join(upper, 'dir'));
  await writeFile(join(upper, 'high'), '');
  await writeFile(join(upper, 'dir/high'), '');
  const records = ['low', 'high', 'dir'].map((path) => checkOf(path, true));
  assert.deepEqual(await conflictsOf(records, upper), ['changed high', 'changed dir/high']);
});

test('small files are compared byte for byte', async () => {
  await writeFile(join(base, 'HEAD'), 'ref: refs/heads/main\n');
  await symlink('HEAD', join(base, 'link'));
  const checks = (path: string, content: string | undefined): ArchiveRecord => ({
    kind: 'checkContent',
    path: Buffer.from(path),
    content: content === undefined ? undefined : Buffer.from(content),
  });
  const fitting = [
    checks('HEAD', 'ref: refs/heads/main\n'),
    checks('absent', undefined),
    checks('no/thing', undefined),
  ];
  assert.deepEqual(await conflictsOf(fitting), []);
  const wrong = [
    checks('HEAD', 'ref: refs/heads/main'),
    checks('HEAD', undefined),
    checks('link', 'ref: refs/heads/main\n'),
    checks('absent', ''),
  ];
  assert.deepEqual(await conflictsOf(wrong), [
    'content HEAD',
    'content HEAD',
    'content link',
    'content absent',
  ]);
});

test('requests that make no sense are refused', async () => {
  await assert.rejects(agent.unpack({ base: 'relative' }, []), { message: /refused/ });
  await assert.rejects(agent.unpack({ base: join(base, 'x'), baseMustExist: true }, []), {
    code: 'not_found',
  });
  await assert.rejects(packed([]), { message: /refused/ });
  await assert.rejects(packed(['../x']), { message: /refused/ });
  await assert.rejects(agent.unpack({ base }, [deleteOf('x'), checkOf('x', true)]), {
    message: /refused.*check/,
  });
});

test('with a staging directory, what lost its power leaves nothing elsewhere, and the next one removes it', async () => {
  const staging = join(base, '.git', 'new');
  await mkdir(join(staging, 'deeper'), { recursive: true });
  await writeFile(join(staging, '.banger-new-1-0'), 'half');
  await writeFile(join(base, 'there'), 'before');
  await agent.unpack({ base, staging: '.git/new' }, [
    ...fileOf('there', 'after'),
    ...fileOf('a/new', 'new'),
    linkOf('link', 'there'),
  ]);
  assert.deepEqual(await readdir(staging), []);
  assert.deepEqual((await readdir(base)).sort(), ['.git', 'a', 'link', 'there']);
  assert.equal(await readFile(join(base, 'link'), 'utf8'), 'after');
  assert.equal(await readFile(join(base, 'a/new'), 'utf8'), 'new');
});

test('a staging directory is made in a directory that is there, which is no link', async () => {
  const elsewhere = await mkdtemp(join(root, 'elsewhere-'));
  await symlink(elsewhere, join(base, 'link'));
  for (const staging of ['missing/new', 'link/new']) {
    await agent.unpack({ base, staging }, fileOf('file', staging));
    assert.equal(await readFile(join(base, 'file'), 'utf8'), staging);
  }
  assert.deepEqual(await readdir(elsewhere), []);
  assert.deepEqual((await readdir(base)).sort(), ['file', 'link']);
});
