import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { lastWords } from './last-words.ts';

const dir = await mkdtemp(join(tmpdir(), 'words-'));
after(() => rm(dir, { recursive: true }));
const log = join(dir, 'log');

test('only what was written from the given byte on', async () => {
  await writeFile(log, 'an earlier run\nthe end\n');
  assert.equal(await lastWords(log, 15), 'the end');
  assert.equal(await lastWords(log, 23), '');
});

test('a log that was emptied since is read from its beginning', async () => {
  await writeFile(log, 'short\n');
  assert.equal(await lastWords(log, 1000), 'short');
});

test('at most six lines, without blank ones and without control characters', async () => {
  await writeFile(log, `${Array.from({ length: 9 }, (_, n) => `line ${n}`).join('\r\n\r\n')}\x1b[31m\x07\n`);
  assert.equal(await lastWords(log), 'line 3\nline 4\nline 5\nline 6\nline 7\nline 8[31m');
});

test('at most 4 KiB of a long one', async () => {
  await writeFile(log, 'x'.repeat(1_000_000));
  assert.equal((await lastWords(log)).length, 4096);
});

test('no such file: nothing was said', async () => {
  assert.equal(await lastWords(join(dir, 'missing')), '');
});
