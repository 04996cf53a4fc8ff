import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guessUrl } from './port-url.ts';

test('usual ports of web servers have a link, others have none', () => {
  const urls = [80, 443, 8000, 8443, 3000, 5173, 22, 5432, 6379, 3306, 65_535].map((port) =>
    guessUrl('dev.vm', port),
  );
  assert.deepEqual(urls, [
    'http://dev.vm/',
    'https://dev.vm/',
    'http://dev.vm:8000/',
    'https://dev.vm:8443/',
    'http://dev.vm:3000/',
    'http://dev.vm:5173/',
    ...[null, null, null, null, null],
  ]);
});
