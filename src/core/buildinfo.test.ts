import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BUILD } from './buildinfo.ts';

test('the sources know the version of package.json', () => {
  const text = readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8');
  assert.equal(BUILD.version, (JSON.parse(text) as { version: string }).version);
});
