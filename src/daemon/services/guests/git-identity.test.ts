import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Log } from '../../../host/log.ts';
import { type CommandRunner, createRunner } from '../../../host/runner.ts';
import { HostGitIdentity } from './git-identity.ts';

const HOME = mkdtempSync(join(tmpdir(), 'git-identity-'));
const LOG = { debug: () => undefined } as unknown as Log;
const config = join(HOME, '.gitconfig');

after(() => rmSync(HOME, { recursive: true, force: true }));

/** The real runner, counted. */
function identity() {
  const calls = { count: 0 };
  const real = createRunner();
  const runner: CommandRunner = {
    run: (argv, options) => {
      calls.count += 1;
      return real.run(argv, options);
    },
  };
  return {
    calls,
    git: new HostGitIdentity({ runner, log: LOG, env: { HOME, XDG_CONFIG_HOME: join(HOME, '.config') } }),
  };
}

test('it is what git says, read once for as long as the files are the same', async () => {
  const included = join(HOME, 'work');
  writeFileSync(included, '[user]\n\temail = "a@work.example"\n');
  writeFileSync(
    config,
    `[user]\n\tname = "A \\"B\\" C"\n\temail = home@example\n[include]\n\tpath = ${included}\n`,
  );
  const { calls, git } = identity();
  const expected = { name: 'A "B" C', email: 'a@work.example' };
  assert.deepEqual(await git.get(), expected);
  assert.deepEqual(await git.get(), expected);
  assert.equal(calls.count, 1);
  writeFileSync(included, '[user]\n\temail = "another@work.example"\n');
  assert.deepEqual(await git.get(), { ...expected, email: 'another@work.example' });
  assert.equal(calls.count, 2);
});

test('without one, and with a configuration git cannot read, there is none', async () => {
  rmSync(config);
  const { calls, git } = identity();
  assert.equal(await git.get(), undefined);
  writeFileSync(config, '[user\n');
  assert.equal(await git.get(), undefined);
  assert.equal(await git.get(), undefined);
  assert.equal(calls.count, 2);
  writeFileSync(config, '[user]\nname = x\n');
  assert.deepEqual(await git.get(), { name: 'x' });
});
