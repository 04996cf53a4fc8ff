/** A tar made by tar(1) through the tree into a file system, looked at with debugfs: what goes in must come out. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmod, link, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from '../core/errors.ts';
import { createRunner } from '../host/runner.ts';
import { checkExt4, writeExt4 } from './ext4.ts';
import { sparseDigest } from '../host/sparse-digest.ts';
import { readTar, type TarEntry } from './tar-read.ts';
import { toolEnv } from './tools.ts';
import { Tree } from './tree.ts';

const runner = createRunner();
const signal = new AbortController().signal;
const LIMITS = { maxEntries: 1000, maxTotalBytes: 1024 ** 2 };
let dir = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'banger-tree-'));
});
after(() => rm(dir, { recursive: true }));

async function* bytesOf(...chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

function entry(name: string, change: Partial<TarEntry> = {}): TarEntry {
  return {
    type: 'file',
    name,
    linkName: '',
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtimeSeconds: 1_700_000_000,
    sizeBytes: 0,
    major: 0,
    minor: 0,
    xattrs: new Map(),
    content: bytesOf(),
    ...change,
  };
}

async function newTree(name: string, limits = LIMITS): Promise<Tree> {
  const path = join(dir, name);
  await mkdir(path);
  return new Tree(path, limits);
}

async function debugfs(image: string, command: string): Promise<string> {
  const { stdout } = await runner.run(['debugfs', '-R', command, image], { env: toolEnv() });
  return stdout.toString('latin1');
}

async function image(tree: Tree, name: string): Promise<string> {
  await tree.seal();
  const imagePath = join(dir, name);
  await writeExt4({ tree, imagePath, virtualSizeBytes: 16 * 1024 ** 2, scratchDir: dir, runner, signal });
  await checkExt4(imagePath, runner, signal);
  return imagePath;
}

test('owners, modes, devices, links, attributes and odd names arrive in the file system', async () => {
  const tree = await newTree('odd');
  const capability = Buffer.from([1, 0, 0, 2, 0, 0x20, 0, 0x80, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0]);
  await tree.add(entry('./', { type: 'directory', mode: 0o755 }));
  await tree.add(
    entry('./usr/bin/su', { mode: 0o4755, sizeBytes: 5, content: bytesOf(Buffer.from('hello')) }),
  );
  await tree.add(entry('usr/bin/ping', { xattrs: new Map([['security.capability', capability]]) }));
  await tree.add(entry('usr/bin/also', { type: 'hardlink', linkName: './usr/bin/su' }));
  await tree.add(entry('sh', { type: 'symlink', mode: 0o777, linkName: '/bin/absolute target' }));
  await tree.add(entry('secret', { mode: 0, uid: 70_000, gid: 42 }));
  await tree.add(entry('closed', { type: 'directory', mode: 0o1111, uid: 7, gid: 8 }));
  await tree.add(entry('dev/null', { type: 'character', mode: 0o666, major: 1, minor: 3 }));
  await tree.add(entry('dev/disk', { type: 'block', mode: 0o660, major: 254, minor: 0, gid: 6 }));
  await tree.add(entry('dev/pipe', { type: 'fifo', mode: 0o600 }));
  for (const odd of [
    'with space',
    'quo"te',
    "apo's",
    'back\\slash',
    '#hash',
    '<12>',
    '-dash',
    'caf\u00c3\u00a9',
    '\u00ff',
  ]) {
    await tree.add(entry(`odd/${odd}`, { uid: 1234 }));
  }
  const path = await image(tree, 'odd.ext4');
  const expected: Record<string, RegExp> = {
    '/': /Type: directory +Mode: +0755[^]*User: +0 +Group: +0 /,
    '/usr/bin/su': /Type: regular +Mode: +04755[^]*User: +0 +Group: +0 [^]*Size: 5\n[^]*Links: 2/,
    '/sh': /Type: symlink +Mode: +0777[^]*User: +0 +Group: +0 [^]*Fast link dest: "\/bin\/absolute target"/,
    '/secret': /Type: regular +Mode: +0000[^]*User: 70000 +Group: +42 /,
    '/closed': /Type: directory +Mode: +01111[^]*User: +7 +Group: +8 /,
    '/dev/null': /Type: character special +Mode: +0666[^]*Device major\/minor number: 01:03/,
    '/dev/disk': /Type: block special +Mode: +0660[^]*Group: +6 [^]*Device major\/minor number: 254:00/,
    '/dev/pipe': /Type: FIFO +Mode: +0600/,
    '"/odd/with space"': /User: +1234 /,
    '"/odd/quo""te"': /User: +1234 /,
    '/odd/back\\slash': /User: +1234 /,
    '/odd/<12>': /User: +1234 /,
    '/odd/-dash': /User: +1234 /,
  };
  for (const [name, pattern] of Object.entries(expected)) {
    assert.match(await debugfs(path, `stat ${name}`), pattern, name);
  }
  const attribute = await debugfs(path, 'ea_get -x /usr/bin/ping security.capability');
  assert.match(attribute, /01 00 00 02 00 20 00 80 00 00 00 00 ff 00/);
});

test('reads what tar(1) writes: long names, binary attributes, hard links, big numbers', async () => {
  const source = join(dir, 'source');
  const long = `${'deep/'.repeat(30)}${'n'.repeat(120)}`;
  await mkdir(join(source, 'deep/'.repeat(30)), { recursive: true });
  await writeFile(join(source, long), 'long');
  await writeFile(join(source, 'big'), Buffer.alloc(100_000, 7));
  await link(join(source, 'big'), join(source, 'zlink'));
  await symlink('t'.repeat(200), join(source, 'symbolic'));
  await chmod(join(source, 'big'), 0o751);
  for (const format of ['pax', 'gnu']) {
    const argv = [
      '-C',
      source,
      `--format=${format}`,
      '--sort=name',
      '--owner=:3000000',
      '--group=:5',
      '-c',
      '.',
    ];
    const child = spawn('tar', argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    const seen = new Map<string, TarEntry & { readonly size: number }>();
    for await (const item of readTar(child.stdout)) {
      let size = 0;
      for await (const chunk of item.content) size += chunk.length;
      seen.set(item.name, { ...item, size });
    }
    assert.equal(seen.get(`./${long}`)?.size, 4, format);
    assert.equal(seen.get('./big')?.size, 100_000, format);
    assert.equal(seen.get('./big')?.mode, 0o751, format);
    assert.equal(seen.get('./big')?.uid, 3_000_000, format);
    assert.equal(seen.get('./zlink')?.linkName, './big', format);
    assert.equal(seen.get('./symbolic')?.linkName, 't'.repeat(200), format);
  }
});

test('names that lead out of the tree or could speak to debugfs are refused', async () => {
  const tree = await newTree('hostile');
  await tree.add(entry('link', { type: 'symlink', linkName: '/etc' }));
  await tree.add(entry('directory', { type: 'directory' }));
  const bad = [
    entry('../outside'),
    entry('a/../../outside'),
    entry('a\nrm /etc/passwd'),
    entry('tab\tin it'),
    entry('link/passwd'),
    entry('x'.repeat(256)),
    entry('a/'.repeat(70)),
    entry('directory', { type: 'symlink', linkName: '/etc' }),
    entry('hard', { type: 'hardlink', linkName: '../../etc/passwd' }),
    entry('hard', { type: 'hardlink', linkName: 'nothing' }),
    entry('hard', { type: 'hardlink', linkName: 'directory' }),
  ];
  for (const item of bad) await assert.rejects(tree.add(item), { code: 'bad_request' }, item.name);
});

test('a tree keeps to its limits', async () => {
  const few = await newTree('few', { maxEntries: 2, maxTotalBytes: 10 });
  await assert.rejects(few.add(entry('f', { content: bytesOf(Buffer.alloc(11)) })), {
    code: 'limit_exceeded',
  });
  await few.add(entry('a'));
  await assert.rejects(few.add(entry('b')), { code: 'limit_exceeded' });
});

test('damaged archives are refused as such', async () => {
  const child = spawn('tar', ['-C', join(dir, 'source'), '-c', 'big'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const chunks: Buffer[] = [];
  for await (const chunk of child.stdout) chunks.push(chunk);
  const good = Buffer.concat(chunks);
  const drain = async (bytes: Buffer) => {
    for await (const item of readTar(bytesOf(bytes))) for await (const _ of item.content);
  };
  await drain(good);
  await fc.assert(
    fc.asyncProperty(fc.nat(good.length), fc.nat(511), fc.nat(255), async (length, at, value) => {
      const bytes = Buffer.from(good);
      bytes[at] = value;
      try {
        await drain(bytes.subarray(0, length));
      } catch (error) {
        assert(error instanceof BangerError && error.code === 'bad_request', String(error));
      }
    }),
    { numRuns: 500 },
  );
});

test('the sparse digest depends on the content, not on the holes', async () => {
  const content = Buffer.alloc(1024 ** 2);
  content.write('something', 700_000);
  const holey = join(dir, 'holey');
  const full = join(dir, 'full');
  await writeFile(full, content);
  await runner.run(['cp', '--sparse=always', full, holey]);
  const digest = await sparseDigest(full, runner, signal);
  assert.equal(await sparseDigest(holey, runner, signal), digest);
  content.write('Something', 700_000);
  await writeFile(full, content);
  assert.notEqual(await sparseDigest(full, runner, signal), digest);
  await writeFile(full, Buffer.concat([content, Buffer.alloc(4096)]));
  assert.notEqual(await sparseDigest(full, runner, signal), digest);
});
