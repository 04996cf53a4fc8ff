import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tunablesWithoutHugePages, withHugePages } from './malloc-tunables.ts';

const OURS = 'glibc.malloc.hugetlb=1';

test('huge pages are asked for beside what is there, and taken away again', () => {
  const others = 'glibc.malloc.arena_max=2';
  for (const given of [undefined, '', others, `${others}:glibc.malloc.check=1`]) {
    const environment = { HOME: '/h', GLIBC_TUNABLES: given };
    const changed = withHugePages(environment);
    assert.deepEqual(changed['HOME'], '/h');
    assert.deepEqual(changed['GLIBC_TUNABLES'], given ? `${given}:${OURS}` : OURS);
    assert.equal(tunablesWithoutHugePages(changed), given || undefined);
  }
});

test('what somebody has said of them stays', () => {
  const environment = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=0' };
  assert.equal(withHugePages(environment), environment);
  assert.equal(tunablesWithoutHugePages(environment), 'glibc.malloc.hugetlb=0');
});
