import assert from 'node:assert/strict';
import { test } from 'node:test';
import { timeAgo } from './times.ts';

const now = Date.parse('2026-01-02T00:00:00Z');

test('how long ago, in the two largest units', () => {
  assert.equal(timeAgo('2026-01-01T23:59:59.500Z', now), 'just now');
  assert.equal(timeAgo('2026-01-01T23:59:47.900Z', now), '12s ago');
  assert.equal(timeAgo('2026-01-01T22:58:00Z', now), '1h2m ago');
});

test('a clock that was set back and a text that is no time', () => {
  assert.equal(timeAgo('2026-01-02T00:00:09Z', now), 'just now');
  assert.equal(timeAgo('soon', now), '-');
});
