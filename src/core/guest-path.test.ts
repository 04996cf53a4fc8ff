import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertGuestPath, DEFAULT_GUEST_PATH } from './guest-path.ts';

test('a copy may lie where it hides nothing', () => {
  for (const path of [DEFAULT_GUEST_PATH, '/work', '/home/me/ünï code', '/opt/x', '/root/a/b'])
    assertGuestPath(path);
});

test('a copy may not lie on what the guest needs', () => {
  const bad = [
    '',
    'work',
    '/',
    '/root',
    '/home',
    '/etc/x',
    '/usr',
    '/var/lib/x',
    '/run/x',
    '/a//b',
    '/a/',
    '/a/../b',
  ];
  for (const path of [...bad, '/a/./b', '/a\nb', '/a\0b', '/x/.git', '/x/.git/y', `/${'x'.repeat(1024)}`])
    assert.throws(() => assertGuestPath(path), { code: 'bad_request' }, path);
});
