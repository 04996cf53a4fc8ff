import assert from 'node:assert/strict';
import { test } from 'node:test';
import { someWorkspace } from '../../../../test/helpers/store-records.ts';
import { otherCopy } from './other-copy.ts';

const has = someWorkspace({
  ...{ sourcePath: '/here/repo', guestPath: '/root/repo' },
  ...{ readOnly: false, mode: 'shallow_overlay' },
});

test('what asks for the copy that is there is no other one', () => {
  assert.equal(otherCopy('dev', has, {}), undefined);
  const { guestPath, readOnly, mode } = has;
  const same = { sourcePath: '/here/repo', guestPath, readOnly, mode };
  assert.equal(otherCopy('dev', has, same), undefined);
  const imported = { ...has, sourcePath: null };
  assert.equal(otherCopy('dev', imported, same), undefined, 'somebody says of which it is');
  assert.match(
    otherCopy('dev', imported, { guestPath: '/work' })?.message ?? '',
    /^VM "dev" has a copy of a repository at \/root\/repo; --guest-path /,
  );
});

test('each option that cannot change is named with what it was and is to be, and what makes such a copy', () => {
  const one = otherCopy('dev', has, { guestPath: '/work' });
  assert.equal(
    one?.message,
    'VM "dev" has a copy of /here/repo at /root/repo; --guest-path cannot change from /root/repo to /work',
  );
  assert.match(
    one.hint ?? '',
    /: banger vm workspace prepare dev; .*: banger vm run \/here\/repo --guest-path \/work$/,
  );
  const all = otherCopy('dev', has, { sourcePath: '/other', readOnly: true, mode: 'full_copy' });
  assert.match(
    all?.message ?? '',
    /; the repository cannot change to \/other; --readonly cannot be added; --mode cannot change from shallow_overlay to full_copy$/,
  );
  assert.match(all?.hint ?? '', /: banger vm run \/other --readonly --mode full_copy$/);
  const writable = otherCopy('dev', { ...has, readOnly: true, mode: 'full_copy' }, { readOnly: false });
  assert.match(
    writable?.message ?? '',
    / at \/root\/repo, read-only, a full copy; --readonly cannot be taken away$/,
  );
});
