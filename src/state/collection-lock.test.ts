import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { firstOutput, killNode, startNode } from '../../test/helpers/node-child.ts';
import { BangerError } from '../core/errors.ts';
import { withCollectionLock } from './collection-lock.ts';

const dir = mkdtempSync(join(tmpdir(), 'banger-collection-lock-'));
after(() => rmSync(dir, { recursive: true }));

test('one at a time, in the order of nobody, and free again after a failure', async () => {
  const path = join(dir, 'a');
  let inside = 0;
  const work = async (): Promise<void> => {
    inside += 1;
    assert.equal(inside, 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    inside -= 1;
  };
  await Promise.all(Array.from({ length: 8 }, () => withCollectionLock(path, work)));
  await assert.rejects(
    withCollectionLock(path, () => Promise.reject(new Error('its own'))),
    /its own/,
  );
  assert.equal(await withCollectionLock(path, async () => 'free'), 'free');
});

test('another process keeps us out for as long as it lives', async () => {
  const path = join(dir, 'b');
  const module = JSON.stringify(join(import.meta.dirname, 'collection-lock.ts'));
  const child = startNode(`import { withCollectionLock } from ${module};
    await withCollectionLock(${JSON.stringify(path)}, async () => {
      console.log('held');
      await new Promise((resolve) => setTimeout(resolve, 1e9));
    });`);
  try {
    await firstOutput(child);
    let entered = false;
    const waiting = withCollectionLock(path, async () => {
      entered = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(entered, false);
    await killNode(child);
    await waiting;
    assert.equal(entered, true);
  } finally {
    await killNode(child);
  }
});

test('a lock that others could hold is not used', async () => {
  const path = join(dir, 'c');
  await withCollectionLock(path, async () => undefined);
  chmodSync(path, 0o666);
  await assert.rejects(
    withCollectionLock(path, async () => assert.fail()),
    (error) => error instanceof BangerError && error.code === 'permission',
  );
});
