import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { createDraft, createTempDir } from './drafts.ts';

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'banger-publish-'));
});
afterEach(() => rm(dir, { recursive: true }));

async function build(text: string) {
  const draft = await createDraft(dir, 'x');
  await writeFile(join(draft.dir, 'file'), text);
  return draft;
}
const published = () => readFile(join(dir, 'x', 'file'), 'utf8');

test('a draft appears when it is published, and leaves nothing else', async () => {
  await using draft = await build('one');
  await assert.rejects(published(), { code: 'ENOENT' });
  assert.equal(await draft.publish(), true);
  assert.equal(await published(), 'one');
  assert.deepEqual(await readdir(dir), ['x']);
});

test('a draft that is given up leaves nothing', async () => {
  {
    await using _draft = await build('one');
  }
  assert.deepEqual(await readdir(dir), []);
});

test('a draft takes the place of what was there when it was begun', async () => {
  await (await build('old')).publish();
  assert.equal(await (await build('new')).publish(), true);
  assert.equal(await published(), 'new');
  assert.deepEqual(await readdir(dir), ['x']);
});

test('of two drafts begun together the first to be published stays', async () => {
  await using first = await build('first');
  await using second = await build('second');
  assert.equal(await first.publish(), true);
  assert.equal(await second.publish(), false);
  assert.equal(await published(), 'first');
});

test('what a dead process left is swept, what a live one works on is not', async () => {
  const dead = join(dir, `.x.tmp-4194304-1-${'0'.repeat(12)}`);
  await mkdir(dead);
  await using live = await createTempDir(dir, 'x');
  await using _other = await createTempDir(dir, 'y');
  const names = await readdir(dir);
  assert(!names.includes(dead.slice(dir.length + 1)));
  assert(names.includes(live.dir.slice(dir.length + 1)));
});
