import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { FrozenState } from './driver.ts';
import { assertSameShape, checkMemoryFile, MAX_STATE_BYTES, openVerified } from './frozen-files.ts';

const dir = await mkdtemp(join(tmpdir(), 'restore-'));
after(() => rm(dir, { recursive: true }));

async function stateOf(content: string): Promise<FrozenState> {
  const path = join(dir, 'state');
  await writeFile(path, content);
  return { path, sizeBytes: content.length, sha256: createHash('sha256').update(content).digest('hex') };
}

test('another shape is refused with everything that differs', () => {
  assertSameShape({ a: '1' }, { a: '1' });
  assert.throws(() => assertSameShape({ a: '1', b: '1', c: '1' }, { a: '2', b: '2', c: '1' }), {
    code: 'unsupported',
    message: 'the frozen machine was another one: a: 2, not 1; b: 2, not 1',
  });
});

test('the memory has exactly the machine’s size', async () => {
  const path = join(dir, 'memory');
  await writeFile(path, '');
  for (const [bytes, fits] of [
    [2 ** 20, true],
    [2 ** 20 - 1, false],
    [2 ** 20 + 4096, false],
  ] as const) {
    await truncate(path, bytes);
    const check = checkMemoryFile(path, 1);
    if (fits) await check;
    else await assert.rejects(check, { code: 'verify_failed' }, String(bytes));
  }
  await assert.rejects(checkMemoryFile(join(dir, 'missing'), 1), { code: 'verify_failed' });
});

test('a state is opened at its beginning, and only with its own bytes', async () => {
  const good = await stateOf('device state');
  await using file = await openVerified(good);
  assert.equal((await file.readFile('utf8')).slice(0, 6), 'device', 'from the beginning');
  const wrong: readonly Partial<FrozenState>[] = [
    { sizeBytes: 11 },
    { sha256: '0'.repeat(64) },
    { path: dir },
    { path: join(dir, 'missing') },
  ];
  for (const change of wrong) {
    await assert.rejects(
      openVerified({ ...good, ...change }),
      { code: 'verify_failed' },
      JSON.stringify(change),
    );
  }
  await truncate(good.path, MAX_STATE_BYTES + 1);
  await assert.rejects(openVerified({ ...good, sizeBytes: MAX_STATE_BYTES + 1 }), { code: 'verify_failed' });
});
