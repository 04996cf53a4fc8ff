import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { initRepo, runner, temporaryDir } from '../../test/helpers/host-repo.ts';
import { planWorkspace } from './plan.ts';
import { readToolFiles } from './tool-files.ts';

test('tracked files at the top are read, as they are or as the commit has them', async (t) => {
  const repo = await initRepo(join(await temporaryDir(t), 'repo'));
  repo.write('.nvmrc', '18\n');
  repo.write('go.mod', '// '.repeat(40_000));
  repo.write('sub/.tool-versions', 'node 1\n');
  repo.write('package.json', '{}');
  await repo.commit();
  repo.write('.nvmrc', '20\n');
  await repo.commit();
  repo.write('.nvmrc', '22\n');
  repo.write('.python-version', 'untracked\n');
  const { signal } = new AbortController();
  const options = { path: repo.dir, includeUntracked: false, runner, signal };
  const now = await planWorkspace(options);
  const read = async (plan: typeof now) =>
    Object.fromEntries((await readToolFiles(plan, runner, signal)).map(({ file, text }) => [file, text]));
  assert.deepEqual(await read(now), { '.nvmrc': '22\n', 'go.mod': null, 'package.json': '{}' });
  const before = await planWorkspace({ ...options, branch: 'old', from: 'HEAD~1' });
  assert.deepEqual(await read(before), { '.nvmrc': '18\n', 'go.mod': null, 'package.json': '{}' });
  // A FIFO in the place of a file that was looked at must not hold the daemon up.
  rmSync(join(repo.dir, '.nvmrc'));
  execFileSync('mkfifo', [join(repo.dir, '.nvmrc')]);
  assert.deepEqual(await read(now), { 'go.mod': null, 'package.json': '{}' });
});
