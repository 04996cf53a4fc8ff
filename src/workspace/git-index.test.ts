import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { runner, temporaryDir } from '../../test/helpers/host-repo.ts';
import { isSafePath } from './byte-path.ts';
import { hostGit } from './git.ts';
import { encodeGitIndex } from './git-index.ts';
import { type IndexEntry, parseIndexListing, readIndexEntries } from './index-entries.ts';
import type { ObjectFormat } from './repo.ts';

const name = fc
  .uint8Array({ minLength: 1, maxLength: 12 })
  .map((bytes) => Buffer.from(bytes).toString('latin1').replaceAll('/', '-'))
  .filter(isSafePath);

/** Files only, in git's order, none of them inside another. */
function entriesOf(format: ObjectFormat) {
  const digits = format === 'sha1' ? 40 : 64;
  const oid = fc.stringMatching(new RegExp(`^[1-9a-f][0-9a-f]{${digits - 1}}$`));
  const entry = fc.record({
    mode: fc.constantFrom(0o100644, 0o100755, 0o120000),
    oid,
    flag: fc.constantFrom('none', 'assumeUnchanged', 'skipWorktree', 'intentToAdd'),
    seconds: fc.integer({ min: 1, max: 0xffffffff }),
    sizeBytes: fc.integer({ min: 0, max: 0xffffffff }),
  });
  return fc.dictionary(name, entry, { maxKeys: 20, noNullPrototype: true }).map((byName) =>
    Object.keys(byName)
      .sort()
      .map((key) => ({ path: `d/${key}`, ...(byName[key] as (typeof byName)[string]) })),
  );
}

for (const format of ['sha1', 'sha256'] as const) {
  test(`git reads back the index that is written (${format})`, async (t) => {
    const dir = await temporaryDir(t);
    await runner.run(['git', 'init', '--quiet', `--object-format=${format}`, dir]);
    const git = hostGit(runner, dir, new AbortController().signal);
    await fc.assert(
      fc.asyncProperty(entriesOf(format), async (made) => {
        const entries = made.map(
          (one): IndexEntry => ({
            path: one.path,
            mode: one.mode,
            oid: one.oid,
            stage: 0,
            stat: { mtimeMs: one.seconds * 1000, ctimeMs: 0, ino: 0, sizeBytes: one.sizeBytes },
            assumeUnchanged: one.flag === 'assumeUnchanged',
            skipWorktree: one.flag === 'skipWorktree',
            intentToAdd: one.flag === 'intentToAdd',
          }),
        );
        const stats = new Map(
          made.map((one) => [one.path, { mtimeSeconds: one.seconds, sizeBytes: one.sizeBytes }]),
        );
        writeFileSync(
          join(dir, 'index'),
          encodeGitIndex(entries, ({ path }) => stats.get(path), format),
        );
        assert.deepEqual(await readIndexEntries(git, { GIT_INDEX_FILE: join(dir, 'index') }), entries);
      }),
      { numRuns: 40 },
    );
  });
}

test('refuses paths that lead out of the tree or into .git', () => {
  const debug = '  ctime: 0:0\n  mtime: 0:0\n  dev: 0\tino: 0\n  uid: 0\tgid: 0\n  size: 0\tflags: 0\n';
  const listing = (path: string) => Buffer.from(`100644 ${'a'.repeat(40)} 0\t${path}\0${debug}`);
  assert.equal(parseIndexListing(listing('fine')).length, 1);
  for (const path of ['../x', 'a/../b', '.git/config', 'a/.GIT/hooks/x', '/etc/passwd', 'a//b', 'a/', '.']) {
    assert.throws(() => parseIndexListing(listing(path)), { code: 'bad_request' }, path);
  }
});

test('says so when git prints something else', () => {
  assert.throws(() => parseIndexListing(Buffer.from('H file\0')), { code: 'unsupported' });
  assert.throws(() => parseIndexListing(Buffer.from(`100644 ${'a'.repeat(40)} 0\tfile\0what?\n`)), {
    code: 'unsupported',
  });
});
