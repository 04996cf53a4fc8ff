import assert from 'node:assert/strict';
import { appendFile, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { followFile } from './follow-file.ts';

let dir: string;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'banger-follow-'));
});
after(() => rm(dir, { recursive: true }));

async function read(path: string, tailLines?: number): Promise<string> {
  let text = '';
  await followFile(path, {
    write: async (bytes) => {
      text += Buffer.from(bytes).toString();
    },
    follow: false,
    tailLines,
    signal: new AbortController().signal,
  });
  return text;
}

test('the last lines are what splitting the text says they are', async () => {
  const path = join(dir, 'tail');
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ maxLength: 5 }).map((line) => line.replaceAll('\n', ''))),
      fc.boolean(),
      fc.nat(6),
      async (lines, ended, count) => {
        const text = lines.join('\n') + (ended && lines.length > 0 ? '\n' : '');
        await writeFile(path, text);
        const parts = text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
        assert.equal(await read(path, count), count === 0 ? '' : parts.slice(-count).join(''));
        assert.equal(await read(path), text);
      },
    ),
    { numRuns: 60 },
  );
});

test('a tail longer than one chunk', async () => {
  const path = join(dir, 'long');
  const lines = Array.from({ length: 5000 }, (_, index) => `${index} ${'x'.repeat(50)}\n`);
  await writeFile(path, lines.join(''));
  assert.equal(await read(path, 3000), lines.slice(-3000).join(''));
});

test('a missing file is told, unless it may still come', async () => {
  const signal = new AbortController().signal;
  const options = { write: async () => undefined, follow: false, tailLines: undefined, signal };
  assert.equal(await followFile(join(dir, 'none'), options), false);
});

test('following: what is appended, and a file that is replaced from its beginning', async () => {
  const path = join(dir, 'grows');
  await writeFile(path, 'old\n');
  const controller = new AbortController();
  const steps: (() => Promise<void>)[] = [
    () => appendFile(path, 'more\n'),
    async () => {
      await writeFile(`${path}.new`, 'fresh\n');
      await rename(`${path}.new`, path);
    },
    async () => controller.abort(),
  ];
  let text = '';
  const found = await followFile(path, {
    write: async (bytes) => {
      text += Buffer.from(bytes).toString();
      await steps.shift()?.();
    },
    follow: true,
    tailLines: 1,
    signal: controller.signal,
  });
  assert.equal(found, true);
  assert.equal(text, 'old\nmore\nfresh\n');
});
