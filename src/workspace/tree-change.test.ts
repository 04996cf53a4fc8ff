import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseMerge } from './merge-trees.ts';
import { parseGuestChanges, parseTreeChanges, parseTreeListing } from './tree-change.ts';

const ZERO = '0'.repeat(40);
const OID = 'ab'.repeat(20);
const raw = (path: string, letter = 'M'): string => `:100644 100755 ${OID} ${OID} ${letter}\0${path}\0`;

test('raw lines and numbers, in any order of numbers, binary files without', () => {
  const listing = `:000000 120000 ${ZERO} ${OID} A\0new\nline\0${raw('b')}-\t-\tb\x003\t4\tnew\nline\0`;
  assert.deepEqual(
    parseGuestChanges(Buffer.from(listing)).map(({ path, kind, insertions, deletions }) => [
      path,
      kind,
      insertions,
      deletions,
    ]),
    [
      ['new\nline', 'added', 3, 4],
      ['b', 'modified', null, null],
    ],
  );
  assert.deepEqual(parseGuestChanges(Buffer.from('')), []);
});

test('a guest that lists something else is an error of the guest', () => {
  for (const listing of [
    raw('../up'),
    raw('/etc/passwd'),
    raw('.git/config'),
    raw('a/.GIT/hooks/x'),
    raw('a//b'),
    raw('a').repeat(2),
    raw('a').slice(0, -1),
    `${raw('a')}3\t4\tb\0`,
    `${raw('a')}1\t2\t\0`,
    raw('a', 'R100'),
    'hello\0',
    `:100644 100755 ${OID.slice(1)} ${OID} M\0a\0`,
  ])
    assert.throws(
      () => parseGuestChanges(Buffer.from(listing)),
      { code: 'guest_failed' },
      JSON.stringify(listing),
    );
});

test('what git of the host lists: also what a merge left unresolved, but no path that leads out', () => {
  const unresolved = `:100644 000000 ${OID} ${ZERO} U\0a\0${raw('a')}`;
  const entry = { mode: 0o100644, oid: OID };
  assert.deepEqual(parseTreeChanges(Buffer.from(unresolved)), [
    { path: 'a', from: entry, to: null },
    { path: 'a', from: entry, to: { ...entry, mode: 0o100755 } },
  ]);
  assert.deepEqual(parseTreeListing(Buffer.from(`100644 blob ${OID}\ta\0`)), [
    { path: 'a', from: null, to: entry },
  ]);
  for (const listing of ['hello', 'hello\0', raw('a', 'R100'), raw('a').slice(0, -1), `${raw('a')}1\t2\ta\0`])
    assert.throws(() => parseTreeChanges(Buffer.from(listing)), { code: 'unsupported' }, listing);
  assert.throws(() => parseTreeChanges(Buffer.from(raw('../up'))), { code: 'bad_request' });
});

test('no bytes break the readers', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const parse of [parseGuestChanges, parseTreeChanges, parseTreeListing, parseMerge]) {
        try {
          parse(Buffer.from(bytes));
        } catch (error) {
          assert.match((error as { code: string }).code, /^(guest_failed|unsupported|bad_request)$/);
        }
      }
    }),
  );
});

test('what git says of a merge', () => {
  const clean = parseMerge(Buffer.from(`${OID}\0\x001\0a\0Auto-merging\0Auto-merging a\n\0`));
  assert.deepEqual(clean, { tree: OID, conflicts: [] });
  const stages = [1, 2, 3].map((stage) => `100644 ${OID} ${stage}\ta b\0`).join('');
  const messages = '1\0a b\0Auto-merging\0…\0' + '2\0a b\0other\0CONFLICT (contents)\0…\0';
  assert.deepEqual(parseMerge(Buffer.from(`${OID}\0${stages}\0${messages}`)).conflicts, [
    { path: 'a b', why: 'contents' },
  ]);
});
