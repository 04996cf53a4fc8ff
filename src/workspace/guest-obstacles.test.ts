import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { initRepo, temporaryDir } from '../../test/helpers/host-repo.ts';
import { LocalGuest } from '../../test/helpers/local-guest.ts';
import { bytePath } from './byte-path.ts';
import { findObstacles } from './guest-obstacles.ts';
import type { TreeChange } from './tree-change.ts';

function put(path: string, mode = 0o100644): TreeChange {
  return { path: bytePath(path), from: null, to: { mode, oid: 'a'.repeat(40) } };
}

test('directories in the place of files, and files and links in that of directories, with what would be lost', async (t) => {
  const host = await initRepo(join(await temporaryDir(t), 'repo'));
  const repo = { path: host.dir, programs: new LocalGuest(), signal: new AbortController().signal };
  host.write('plain');
  host.write('as-directory/with/file');
  host.write('as-directory/ünï\nname');
  mkdirSync(join(host.dir, 'empty/deeper'), { recursive: true });
  host.write('parent');
  symlinkSync('as-directory', join(host.dir, 'link'));
  mkdirSync(join(host.dir, 'submodule'));
  host.write('as-directory-too/other');
  const changes = [
    put('plain'),
    put('as-directory'),
    put('empty'),
    put('parent/is/file'),
    put('link/below'),
    put('submodule', 0o160000),
    put('new/one'),
    { ...put('as-directory/with'), from: put('').to, to: null },
  ];
  const found = await findObstacles(repo, changes);
  assert.deepEqual(
    found.map(({ path, files }) => ({ path, files: files.toSorted() })),
    [
      { path: 'as-directory', files: ['as-directory/with/file', bytePath('as-directory/ünï\nname')] },
      { path: 'empty', files: [] },
      { path: 'parent', files: ['parent'] },
      { path: 'link', files: ['link'] },
    ],
  );
});
