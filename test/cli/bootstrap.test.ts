/** What the command line does about tools that a repository asks for. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmCreated } from '../../src/api/results/vm.ts';
import { BangerError } from '../../src/core/errors.ts';
import { planTools } from '../../src/core/toolingplan/plan.ts';
import { fakeCli, fakeDetail, fakeVm } from './fake-cli.ts';

const required = planTools([
  { file: '.tool-versions', text: 'node 20\n' },
  { file: '.nvmrc', text: '18\n' },
]);
const wished = planTools([{ file: 'package.json', text: '{"engines":{"node":"20"}}' }]);

interface Case {
  readonly argv: readonly string[];
  readonly tools: VmCreated['tools'];
  readonly nat: boolean;
  readonly mise?: string | null;
  readonly fails?: true;
}

async function runCase({ argv, tools, nat, mise = '/usr/bin/mise', fails }: Case) {
  const events: string[] = [];
  const plain = fakeVm('dev');
  const vm = { ...plain, spec: { ...plain.spec, nat } };
  const result = await fakeCli(argv, {
    answers: {
      'vm.create': (params) => {
        events.push(`create${params.bootstrap === true ? ' to bootstrap' : ''}`);
        return { vm, workspace: null, tools, elapsedMs: 1 };
      },
      'vm.bootstrap': () => {
        events.push('bootstrap');
        if (fails) throw new BangerError('guest_failed', 'mise ended with status 1', { hint: 'the log' });
        return { mise, logPath: '/var/log/x' };
      },
      'vm.delete': () => {
        events.push('delete');
        return vm;
      },
      'vm.show': () => fakeDetail('dev'),
    },
    session: async () => {
      events.push('session');
      return 0;
    },
  });
  return { ...result, events };
}

test('required tools are installed between creation and command; a contradiction is told', async () => {
  const { events, stderr, status } = await runCase({
    argv: ['vm', 'run', '--rm', '--nat', '.', '--', 'make'],
    tools: required,
    nat: true,
  });
  assert.deepEqual(events, ['create to bootstrap', 'bootstrap', 'session', 'delete']);
  assert.equal(stderr, 'banger: node 20 (.tool-versions:1) counts, not 18 (.nvmrc:1)\n');
  assert.equal(status, 0);
});

test('when they cannot be installed no command runs: 125, the reason, and --rm deletes', async () => {
  const { events, stderr, status } = await runCase({
    argv: ['vm', 'run', '--rm', '--nat', '.', '--', 'make'],
    tools: required,
    nat: true,
    fails: true,
  });
  assert.deepEqual(events, ['create to bootstrap', 'bootstrap', 'delete']);
  // The VM that the daemon's hint is about is gone.
  assert.equal(
    stderr,
    'banger: mise ended with status 1\n' +
      '--no-bootstrap goes without the tools; without --rm the VM stays, to look into it\n',
  );
  assert.equal(status, 125);
});

test('when they cannot be installed in a VM that stays, the hint is about it', async () => {
  const argv = ['vm', 'create', '--nat', '.'];
  const { events, stderr, status } = await runCase({ argv, tools: required, nat: true, fails: true });
  assert.deepEqual(events, ['create to bootstrap', 'bootstrap']);
  assert.equal(
    stderr,
    'banger: mise ended with status 1\nthe log; to go on without the tools: banger vm exec dev\n',
  );
  assert.equal(status, 1);
});

test('a plain repo with a wish runs at once without a network, with one line on it', async () => {
  const argv = ['vm', 'run', '--rm', '.', '--', 'npm', 'test'];
  const { events, stderr, status } = await runCase({ argv, tools: wished, nat: false });
  assert.deepEqual(events, ['create to bootstrap', 'session', 'delete']);
  assert.equal(
    stderr,
    'banger: the repo asks for node 20 (package.json:1); not installed (--nat installs it with mise, where the image has that)\n',
  );
  assert.equal(status, 0);
});

test('with a network it is installed, or said that the image cannot', async () => {
  const argv = ['vm', 'create', '--nat', '.'];
  const installed = await runCase({ argv, tools: wished, nat: true });
  assert.deepEqual([installed.events, installed.stderr], [['create to bootstrap', 'bootstrap'], '']);
  const without = await runCase({ argv, tools: wished, nat: true, mise: null });
  assert.equal(without.status, 0);
  assert.equal(
    without.stderr,
    'banger: the repo asks for node 20 (package.json:1); not installed: image "debian-bookworm" has no mise\n',
  );
  assert.equal(without.stdout, 'dev\n');
});

test('--no-bootstrap, or a repo that asks for nothing: no word and no request', async () => {
  const no = await runCase({
    argv: ['vm', 'run', '--rm', '--nat', '--no-bootstrap', '.', '--', 'make'],
    tools: required,
    nat: true,
  });
  assert.deepEqual([no.events, no.stderr], [['create', 'session', 'delete'], '']);
  const nothing = await runCase({ argv: ['vm', 'run', '-d', '--nat', '.'], tools: planTools([]), nat: true });
  assert.deepEqual([nothing.events, nothing.stderr], [['create to bootstrap'], '']);
});

test('--dry-run names each tool with its place, contradictions, and what could not be read', async () => {
  const tools = planTools([
    { file: '.tool-versions', text: 'node 20\nruby\n' },
    { file: '.nvmrc', text: '18\n' },
  ]);
  const plan = {
    ...{
      guestPath: '/root/repo',
      sourcePath: '/r',
      headCommit: 'c'.repeat(40),
      branch: null,
      files: 0,
      bytes: 0,
    },
    ...{ untrackedLeft: 0, mode: 'shallow_overlay' as const, tools, paths: [] },
  };
  const { stderr } = await fakeCli(['vm', 'run', '.', '--dry-run'], {
    answers: { 'workspace.plan': () => plan },
  });
  assert.deepEqual(stderr.split('\n').slice(1), [
    'asks for node 20 (.tool-versions:1)',
    'node 20 (.tool-versions:1) counts, not 18 (.nvmrc:1)',
    '.tool-versions:2: "ruby" has no version',
    '',
  ]);
});

test('vm bootstrap says with what, and exits 1 where there is no mise', async () => {
  const run = (mise: string | null) =>
    fakeCli(['vm', 'bootstrap', 'dev'], { answers: { 'vm.bootstrap': () => ({ mise, logPath: '/l' }) } });
  const done = await run('/usr/bin/mise');
  assert.deepEqual([done.status, done.stdout, done.stderr], [0, 'installed with /usr/bin/mise\n', '']);
  const none = await run(null);
  assert.deepEqual([none.status, none.stdout], [1, '']);
  assert.match(none.stderr, /no mise/);
});
