import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, statSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { emptyImage, temporaryDir, unpack } from '../../../test/helpers/host-repo.ts';
import { SquashfsWriter } from './image-writer.ts';

const FACTS = { mode: 0o644, mtimeSeconds: 1_000_000_000 };

test('an empty tree is an image too', async (t) => {
  const dir = await temporaryDir(t);
  const imagePath = await emptyImage(dir);
  const fd = openSync(imagePath, 'r+');
  const writer = new SquashfsWriter(fd, { ...FACTS, mode: 0o750 });
  assert.equal(writer.finish() % 4096, 0);
  closeSync(fd);
  const root = statSync(await unpack(imagePath, join(dir, 'out')));
  assert.deepEqual([root.mode & 0o777, root.mtimeMs], [0o750, 1e12]);
});

test('contents beyond 4 GiB are found', async (t) => {
  const dir = await temporaryDir(t);
  const start = 5 * 2 ** 30;
  const imagePath = await emptyImage(dir, 6 * 2 ** 30);
  const fd = openSync(imagePath, 'r+');
  const writer = new SquashfsWriter(fd, { ...FACTS, mode: 0o755 });
  const content = Buffer.alloc(200_000, 'far away');
  writeSync(fd, content, 0, content.length, start);
  writer.addFile('d/far', FACTS, { size: content.length, start, fragment: undefined });
  writer.finish();
  closeSync(fd);
  const out = await unpack(imagePath, join(dir, 'out'));
  assert.deepEqual(readFileSync(join(out, 'd/far')), content);
});

test('nothing valid is left of an older image while a new one is begun', async (t) => {
  const dir = await temporaryDir(t);
  const imagePath = await emptyImage(dir, 1_000_000);
  const fd = openSync(imagePath, 'r+');
  new SquashfsWriter(fd, FACTS).finish();
  assert.equal(readFileSync(imagePath).toString('latin1', 0, 4), 'hsqs');
  const begun = new SquashfsWriter(fd, FACTS);
  assert.equal(readFileSync(imagePath).toString('latin1', 0, 4), '\0\0\0\0');
  begun.finish();
  assert.equal(readFileSync(imagePath).toString('latin1', 0, 4), 'hsqs');
  closeSync(fd);
});

test('a full image is an error', async (t) => {
  const dir = await temporaryDir(t);
  const imagePath = await emptyImage(dir);
  truncateSync(imagePath, 100_000);
  const fd = openSync(imagePath, 'r+');
  const writer = new SquashfsWriter(fd, FACTS);
  assert.throws(() => writer.store(200_000, (buffer) => buffer.length), { code: 'limit_exceeded' });
  closeSync(fd);
});
