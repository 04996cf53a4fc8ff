import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearNames } from './near-names.ts';

test('names that are written nearly alike, or have the word inside', () => {
  const names = ['memory', 'memory_mib', 'vcpu', 'nat', 'disk_size'];
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ['memroy', ['memory']],
    ['memory-mib', ['memory_mib']],
    ['mem', ['memory', 'memory_mib']],
    ['cpus', ['vcpu']],
    ['net', ['nat']],
    ['disk', ['disk_size']],
    ['ram', []],
    ['n', []],
    ['', []],
    ['memory_size', []],
  ];
  for (const [written, near] of cases) assert.deepEqual(nearNames(written, names), near, written);
  assert.equal(
    nearNames(
      'vm-',
      Array.from({ length: 9 }, (_, n) => `vm-${n}`),
    ).length,
    5,
  );
});
