import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstat, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { caseDirectories } from '../../../test/helpers/case-directories.ts';
import { pidStartTicks } from '../../host/proc.ts';
import { HostWriter } from './host-writer.ts';

let base: string;
let outside: string;

caseDirectories('host-writer', async (dir) => {
  base = join(dir, 'base');
  outside = join(dir, 'outside');
  await mkdir(base);
  await mkdir(outside);
  await writeFile(join(outside, 'kept'), 'kept');
});

const bytes = (text: string): Buffer => Buffer.from(text);

async function writeOne(writer: HostWriter, path: string, content: string, mode = 0o644): Promise<void> {
  await writer.beginFile({ kind: 'file', path: bytes(path), mode, mtimeNs: 0n, sizeBytes: content.length });
  await writer.data(0, bytes(content));
  await writer.endFile(content.length);
}

async function link(writer: HostWriter, path: string, target: string): Promise<void> {
  await writer.symlink({
    kind: 'symlink',
    path: bytes(path),
    target: bytes(target),
    mtimeNs: 1_500_000_000_000_000_000n,
  });
}

async function assertOutsideIsAsItWas(): Promise<void> {
  assert.deepEqual(await readdir(outside), ['kept']);
  assert.equal(await readFile(join(outside, 'kept'), 'utf8'), 'kept');
}

test('files, links and directories get what they are to have, and no set-id bits', async () => {
  await using writer = await HostWriter.open(base);
  await writeOne(writer, 'd/e/file', 'content', 0o6755);
  await link(writer, 'd/link', '/etc/passwd');
  await writer.directory({ kind: 'directory', path: bytes('d/e'), mode: 0o500, mtimeNs: 1_000_000_000n });
  await writer.directory({ kind: 'directory', path: bytes('d'), mode: 0o1755, mtimeNs: -1_000_000_000n });
  assert.equal((await stat(join(base, 'd/e/file'))).mode & 0o7777, 0o755);
  assert.equal(await readlink(join(base, 'd/link')), '/etc/passwd');
  assert.equal((await lstat(join(base, 'd/link'))).mtimeMs, 1_500_000_000_000);
  assert.equal((await stat(join(base, 'd/e'))).mode & 0o7777, 0o500);
  const top = await stat(join(base, 'd'));
  assert.deepEqual([top.mode & 0o7777, top.mtimeMs], [0o755, -1000]);
});

test('a directory that was there keeps its mode', async () => {
  await mkdir(join(base, '.ssh'), { mode: 0o700 });
  await using writer = await HostWriter.open(base);
  await writeOne(writer, '.ssh/config', 'x');
  await writer.directory({ kind: 'directory', path: bytes('.ssh'), mode: 0o777, mtimeNs: 0n });
  assert.equal((await stat(join(base, '.ssh'))).mode & 0o7777, 0o700);
});

test('no link leads out, whether it was there or came in the archive', async () => {
  await symlink(outside, join(base, 'there'));
  await symlink(join(outside, 'kept'), join(base, 'file'));
  await using writer = await HostWriter.open(base);
  await link(writer, 'came', outside);
  await link(writer, 'up', '..');
  for (const path of ['there/x', 'there/kept', 'came/x', 'came/a/b', 'up/outside/kept']) {
    await assert.rejects(writeOne(writer, path, 'x'), { code: 'already_exists' });
    await assert.rejects(link(writer, path, 'x'), { code: 'already_exists' });
    await assert.rejects(
      writer.directory({ kind: 'directory', path: bytes(path), mode: 0o777, mtimeNs: 0n }),
      { code: 'already_exists' },
    );
  }
  // A link in the place of a file is replaced, not followed.
  await writeOne(writer, 'file', 'x');
  assert.equal((await lstat(join(base, 'file'))).isFile(), true);
  await assertOutsideIsAsItWas();
});

test('whatever comes in whatever order, nothing outside changes', async () => {
  const name = fc.constantFrom('a', 'b', 'c', 'd');
  const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join('/'));
  const step = fc.record({ kind: fc.constantFrom('file', 'link', 'directory'), path, target: fc.nat(3) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      await using writer = await HostWriter.open(base);
      const targets = [outside, '..', '../../outside', 'a'];
      for (const { kind, path: at, target } of steps) {
        const done =
          kind === 'file'
            ? writeOne(writer, at, 'x')
            : kind === 'link'
              ? link(writer, at, targets[target] ?? '')
              : writer.directory({ kind: 'directory', path: bytes(at), mode: 0o755, mtimeNs: 0n });
        await done.catch((error: unknown) =>
          assert.equal((error as { code?: string }).code, 'already_exists'),
        );
      }
      await assertOutsideIsAsItWas();
    }),
    { numRuns: 60 },
  );
});

test('a file that is not finished leaves nothing, and what had its name stays', async () => {
  await writeFile(join(base, 'file'), 'old');
  {
    await using writer = await HostWriter.open(base);
    await writer.beginFile({ kind: 'file', path: bytes('file'), mode: 0o644, mtimeNs: 0n, sizeBytes: 100 });
    await writer.data(0, bytes('half'));
    assert.equal((await readdir(base)).length, 2);
  }
  assert.deepEqual(await readdir(base), ['file']);
  assert.equal(await readFile(join(base, 'file'), 'utf8'), 'old');
});

test('a directory in the place of a file is left alone', async () => {
  await mkdir(join(base, 'd'));
  {
    await using writer = await HostWriter.open(base);
    await assert.rejects(writeOne(writer, 'd', 'x'), { code: 'already_exists', message: /directory/ });
  }
  assert.deepEqual(await readdir(base), ['d']);
});

test('what a dead copy left is swept, what a live one works on is not', async () => {
  const child = spawn('true');
  const dead = child.pid ?? 0;
  await once(child, 'exit');
  const own = `.banger-cp-${process.pid}-${pidStartTicks(process.pid)}-0123456789ab`;
  const left = `.banger-cp-${dead}-1-0123456789ab`;
  for (const name of [own, left, '.banger-cp-x']) await writeFile(join(base, name), '');
  await using writer = await HostWriter.open(base);
  await writeOne(writer, 'new', 'x');
  assert.deepEqual((await readdir(base)).sort(), [own, '.banger-cp-x', 'new'].sort());
});

test('holes stay holes', async () => {
  await using writer = await HostWriter.open(base);
  await writer.beginFile({
    kind: 'file',
    path: bytes('sparse'),
    mode: 0o644,
    mtimeNs: 0n,
    sizeBytes: 2 ** 30,
  });
  await writer.data(2 ** 20, bytes('data'));
  await writer.endFile(2 ** 30);
  const status = await stat(join(base, 'sparse'));
  assert.equal(status.size, 2 ** 30);
  assert(status.blocks * 512 < 2 ** 20);
});
