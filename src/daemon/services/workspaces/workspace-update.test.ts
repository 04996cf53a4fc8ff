/** A copy brought up to date, with the real agent and a full copy on this host: what the guest did is not lost, however it did it. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { AgentHost } from '../../../../test/helpers/agent-host.ts';
import { plan, runner, smallRepo, type TestRepo, temporaryDir } from '../../../../test/helpers/host-repo.ts';
import type { SourcedWorkspace } from '../../../core/model/workspace.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import { bytePath } from '../../../workspace/byte-path.ts';
import { withFullCopy } from '../../../workspace/full-copy.ts';
import { isUnsettled } from '../../../workspace/shipped-record.ts';
import { machineFiles } from '../../vm-files.ts';
import { rowAfter, updateCopy } from './submodule-updates.ts';
import { keepFullCopyRecords } from './workspace-full-copy.ts';
import type { UpdateJob } from './update-job.ts';
import { updateWorkspace } from './workspace-update.ts';

interface Copy {
  readonly host: TestRepo;
  readonly dir: string;
  /** A shell in the copy. */
  readonly sh: (script: string) => string;
  readonly update: (job?: Partial<UpdateJob>) => Promise<readonly string[]>;
  /** What `--dry-run` does. */
  readonly rehearse: () => Promise<readonly string[]>;
  readonly isCutOff: () => Promise<boolean>;
}

const SAVED = (...paths: string[]) => ({ force: true, saved: new Set(paths.map(bytePath)) });

describe('a copy that is brought up to date', () => {
  let agentHost: AgentHost;
  let agent: AgentClient;
  before(async () => {
    agentHost = await AgentHost.start();
    agent = await agentHost.connect();
  });
  after(async () => {
    await agentHost[Symbol.asyncDispose]();
  });

  const copyOf = async (t: TestContext): Promise<Copy> => {
    const host = await smallRepo(t);
    const own = await temporaryDir(t);
    const files = machineFiles(own, own);
    const dir = join(own, 'copy');
    const planned = await plan(host.dir, { submodules: 'copy' });
    const { signal } = new AbortController();
    const deps = { runner, scratchDir: join(own, 'scratch') };
    const job = { plan: planned, ...deps, signal, onFile: () => undefined };
    const shipped = await withFullCopy(job, async (made) => {
      await agent.unpack({ base: dir, marksShipped: true }, made.records());
      return await keepFullCopyRecords(files, made);
    });
    const asked = { branch: null, from: null, includeUntracked: false };
    let row: SourcedWorkspace = {
      ...{ guestPath: dir, sourcePath: host.dir, headCommit: planned.headCommit, mode: 'full_copy' },
      ...{ readOnly: false, preparedAt: '', tools: null },
      ...asked,
      ...shipped,
    };
    return {
      host,
      dir,
      sh: (script) =>
        execFileSync('sh', ['-ec', script], { cwd: dir, encoding: 'utf8', stdio: 'pipe', env: GUEST_ENV }),
      update: async (change = {}) => {
        const outcome = await updateWorkspace(deps, {
          ...files,
          ...{ vmName: 'dev', workspace: row, asked, agent, force: false, dryRun: false, signal },
          onProgress: () => undefined,
          mountAgain: async () => undefined,
          onShipped: async (record) => {
            row = rowAfter(row, { asked }, undefined, record);
          },
          ...change,
        });
        return outcome.changes.map(({ path }) => path);
      },
      rehearse: async () => {
        const outcome = await updateCopy(deps, {
          ...files,
          ...{ vmName: 'dev', workspace: row, asked, agent, force: false, dryRun: true, signal },
          onProgress: () => undefined,
          mountAgain: async () => undefined,
          onRow: async () => assert.fail('a dry run writes no row'),
        });
        return outcome.changes.map(({ path }) => path);
      },
      isCutOff: () => isUnsettled(files, row),
    };
  };

  test('a branch of the guest that has the name of the one here is not replaced', async (t) => {
    const { host, sh, update } = await copyOf(t);
    sh('git checkout -qb fix; echo guest > guest; git add .; git commit -qm guest; git checkout -q main');
    const theirs = sh('git rev-parse fix').trim();
    await host.git('checkout', '--quiet', '-b', 'fix');
    host.write('here');
    await host.commit('here');
    await assert.rejects(update(), {
      code: 'invalid_state',
      message: 'the branch fix in VM "dev" has commits that are not here, and would be replaced',
    });
    assert.equal(sh('git rev-parse fix').trim(), theirs);
    await update({ force: true });
    assert.equal(sh('git log -1 --format=%s fix').trim(), 'here');
    assert.equal(sh(`git rev-parse refs/banger/overwritten/${theirs.slice(0, 12)}`).trim(), theirs);
  });

  test('with force, what another branch than the one of HEAD names is kept, too', async (t) => {
    const { host, sh, update } = await copyOf(t);
    sh('echo 1 > g; git add .; git commit -qm lost; git checkout -qb other HEAD~1');
    const theirs = sh('git rev-parse main').trim();
    host.write('here');
    await host.commit('here');
    await assert.rejects(update(), /another branch was checked out/);
    await update(SAVED());
    assert.equal(sh('git log -1 --format=%s').trim(), 'here');
    assert.equal(sh(`git rev-parse refs/banger/overwritten/${theirs.slice(0, 12)}`).trim(), theirs);
  });

  test('a commit that the guest makes while the files are sent stays where it is', async (t) => {
    const { host, sh, update, isCutOff } = await copyOf(t);
    host.write('here');
    await host.commit('here');
    let sent = 0;
    const committing: UpdateJob['agent'] = {
      exec: (request) => agent.exec(request),
      sync: (signal) => agent.sync(signal),
      unpack: async (...args) => {
        if (sent++ === 1) sh('echo 1 > g; git add g; git commit -qm meanwhile');
        await agent.unpack(...args);
      },
    };
    await assert.rejects(
      update({ agent: committing }),
      /commits were made .* while it was brought up to date/,
    );
    assert.equal(sh('git log -1 --format=%s').trim(), 'meanwhile');
    assert(await isCutOff(), 'what was sent is not taken for changes of the guest');
    await assert.rejects(update(), /commits were made in the copy/);
    await update(SAVED());
    assert.equal(sh('git log -1 --format=%s').trim(), 'here');
    assert(!(await isCutOff()));
    assert.equal(sh('git status --porcelain --untracked-files=no'), '');
  });

  for (const [one, other] of [
    ['topic', 'topic/below'],
    ['topic/below', 'topic'],
  ] as const) {
    test(`a branch that is renamed here from ${one} to ${other} is there, too`, async (t) => {
      const { host, sh, update, rehearse } = await copyOf(t);
      await host.git('checkout', '--quiet', '-b', one);
      host.write('first');
      await host.commit('first');
      await update();
      await host.git('branch', '-m', one, other);
      host.write('second');
      await host.commit('second');
      assert.deepEqual(await rehearse(), ['second']);
      assert.equal(sh('git branch --show-current; ls'), `${one}\nfirst\nreadme.md\nrun.sh\nsrc\n`);
      await update();
      assert.equal(sh('git branch --show-current; git log -1 --format=%s'), `${other}\nsecond\n`);
      assert.equal(sh('git for-each-ref --format="%(refname:short)" refs/heads'), `main\n${other}\n`);
      assert.equal(sh('git status --porcelain; git fsck --connectivity-only --no-dangling 2>&1'), '');
    });
  }

  test('without what is known of the shippings, a patch of nothing is a way out', async (t) => {
    const { host, sh, update, dir } = await copyOf(t);
    host.write('readme.md', 'not committed\n');
    await update();
    rmSync(join(dir, '../shipped.json'));
    await assert.rejects(update(), /not known any more/);
    await update(SAVED());
    assert.equal(sh('cat readme.md'), 'not committed\n');
    assert.deepEqual(await update(), []);
  });

  test('files that git in the guest has written anew, as they were, are not changed there', async (t) => {
    const { host, sh, update } = await copyOf(t);
    sh('git checkout -qb other; echo 1 >> readme.md; rm run.sh; git commit -qam other; git checkout -q main');
    host.write('readme.md', 'here\n');
    unlinkSync(join(host.dir, 'run.sh'));
    assert.deepEqual(await update(), ['readme.md', 'run.sh']);
    assert.equal(sh('cat readme.md; ls'), 'here\nreadme.md\nsrc\n');
    sh('git checkout -q main -- readme.md; echo guest >> readme.md');
    host.write('readme.md', 'here again\n');
    await assert.rejects(update(), /changed both here and in VM "dev": readme\.md$/);
  });

  test('a directory in the way is found before anything is written', async (t) => {
    const { host, sh, update, dir, isCutOff } = await copyOf(t);
    host.write('aaa');
    host.write('gen');
    host.write('.gitignore', 'ignored\n');
    await host.commit();
    await update();
    sh('rm gen; mkdir gen; echo 1 > gen/ignored; mkdir new; echo 1 > new/own');
    host.write('aaa', 'changed\n');
    host.write('gen', 'changed\n');
    await assert.rejects(update(SAVED('gen')), /changed both here and in VM "dev": gen\/ignored/);
    assert.deepEqual([readFileSync(join(dir, 'aaa'), 'utf8'), await isCutOff()], ['aaa\n', false]);
    await assert.rejects(update(), /gen/);
    assert.equal(readFileSync(join(dir, 'aaa'), 'utf8'), 'aaa\n');
    // What is all in the patch goes, also where nothing was shipped before.
    unlinkSync(join(dir, 'gen/ignored'));
    writeFileSync(join(host.dir, 'new'), 'here\n');
    await host.git('add', 'new');
    await update(SAVED('gen', 'new/own'));
    assert.equal(sh('cat aaa gen new'), 'changed\nchanged\nhere\n');
  });

  test('what was moved in the guest is not taken for what was shipped', async (t) => {
    const { host, sh, update } = await copyOf(t);
    sh('mkdir lib; mv readme.md run.sh lib/');
    host.write('lib', 'a file\n');
    await host.git('add', 'lib');
    await assert.rejects(update(), /lib\/readme\.md/);
    assert.equal(sh('ls lib'), 'readme.md\nrun.sh\n');
  });

  test('a HEAD that leads out of the repository is refused', async (t) => {
    const { host, sh, update } = await copyOf(t);
    host.write('here');
    await host.commit('here');
    sh('echo "ref: refs/heads/../../../outside" > .git/HEAD');
    await assert.rejects(update({ force: true }), /HEAD of the copy names no branch that there can be/);
  });

  test('a repository that is gone is told, with force as well', async (t) => {
    const { host, update, dir } = await copyOf(t);
    rmSync(join(dir, '.git'), { recursive: true });
    for (const moved of [false, true]) {
      if (moved) await host.git('commit', '--quiet', '--allow-empty', '--message', 'moved');
      await assert.rejects(update({ force: true }), {
        code: 'invalid_state',
        message: /^there is no usable repository at /,
      });
    }
    assert(!existsSync(join(dir, '.git')));
  });
});

const GUEST_ENV = {
  PATH: process.env['PATH'],
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_AUTHOR_NAME: 'guest',
  GIT_AUTHOR_EMAIL: 'guest@example.com',
  GIT_COMMITTER_NAME: 'guest',
  GIT_COMMITTER_EMAIL: 'guest@example.com',
  GIT_CEILING_DIRECTORIES: '/tmp',
};
