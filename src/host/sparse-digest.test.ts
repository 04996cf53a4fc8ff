import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { sparseFacts } from './sparse-digest.ts';

test('given up while a file is read: an error of ours', async () => {
  await using file = await open(import.meta.filename, 'r');
  const extents = [{ start: 0, length: 1 }];
  await assert.rejects(sparseFacts(file, extents, AbortSignal.abort()), { code: 'cancelled' });
});
