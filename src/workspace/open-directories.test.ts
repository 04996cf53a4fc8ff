import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDir } from '../../test/helpers/host-repo.ts';
import { OpenDirectories } from './open-directories.ts';

test('directories are made with their mode, and opened through no link', async (t) => {
  const root = await temporaryDir(t);
  const outside = await temporaryDir(t);
  symlinkSync(outside, join(root, 'link'));
  writeFileSync(join(root, 'file'), '');
  using directories = new OpenDirectories(root, 0o751);
  assert.equal(directories.pathTo('link/x', false), undefined);
  assert.equal(directories.pathTo('file/x', false), undefined);
  assert.equal(directories.pathTo('gone/x', false), undefined);
  for (const path of ['link/x', 'link/deep/x', 'file/x'])
    assert.throws(() => directories.pathTo(path, true), {
      code: 'invalid_state',
      message: /^(link|file) is in/,
    });
  assert.deepEqual(readdirSync(outside), []);
  writeFileSync(directories.pathTo('made/deep/x', true) ?? '', 'here');
  assert.equal(statSync(join(root, 'made/deep')).mode & 0o777, 0o751);
  assert.deepEqual(readdirSync(join(root, 'made/deep')), ['x']);
});

test('deep and wide trees do not use up descriptors', async (t) => {
  const root = await temporaryDir(t);
  using directories = new OpenDirectories(root, 0o755);
  const open = (): number => readdirSync('/proc/self/fd').length;
  const before = open();
  for (let number = 0; number < 300; number += 1) directories.pathTo(`wide/${number}/x`, true);
  directories.pathTo(`${'deep/'.repeat(30)}x`, true);
  assert(open() - before < 100, `${open() - before} descriptors`);
  mkdirSync(join(root, 'other'));
  assert(directories.pathTo('wide/0/x', false) !== undefined);
});
