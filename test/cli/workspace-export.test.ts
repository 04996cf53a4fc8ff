import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ParamsOf } from '../../src/api/contract.ts';
import type { VmDetail } from '../../src/api/results/vm.ts';
import type {
  WorkspaceApplied,
  WorkspaceExported,
  WorkspaceFetched,
} from '../../src/api/results/workspace.ts';
import type { CliPorts } from '../../src/cli/cli-context.ts';
import { parseAddress } from '../../src/cli/commands/git-remote.ts';
import { fakeCli } from './fake-cli.ts';

const EXPORT = ['vm', 'workspace', 'export', 'dev'];
const EXPORTED: WorkspaceExported = {
  ...{ vm: 'dev', path: null, bytes: 10, base: 'ab'.repeat(20), commits: 1, files: 2, insertions: 3 },
  ...{ deletions: 4, includesShipped: true, nested: ['inner'] },
  changes: [
    { path: 'a\u001b[31m', kind: 'modified', insertions: 3, deletions: 4 },
    { path: 'b', kind: 'added', insertions: null, deletions: null },
  ],
};

test('what a patch holds is told on stderr, and what the guest named cannot command the terminal', async () => {
  const { status, stdout, stderr } = await fakeCli([...EXPORT, '--stat'], {
    answers: { 'workspace.export': () => EXPORTED },
  });
  assert.equal(status, 0);
  assert.equal(stdout, 'M a\ufffd[31m (+3 -4)\nA b (binary)\n');
  assert.match(stderr, /^dev: 2 files, \+3 -4, 1 commit of the VM among it\nit holds .*--since-prepare/);
  assert.match(stderr, /inner is a repository of its own/);
});

test('a patch goes to a pipe or a file, not to a terminal', async () => {
  const terminal = await fakeCli(EXPORT, { stdoutIsTTY: true });
  assert.equal(terminal.status, 2);
  assert.match(terminal.stderr, /--output FILE/);
  const piped = await fakeCli(EXPORT, { answers: { 'workspace.export': () => ({ ...EXPORTED, files: 0 }) } });
  assert.equal(piped.status, 0);
  assert.match(piped.stderr, /^dev: nothing differs from abababababab\n/);
  const [, call] = piped.calls;
  assert.deepEqual(call?.params, { ref: 'dev', sincePrepare: false, stream: 'ab'.repeat(32) });
});

test('conflicts exit with 1, and are listed', async () => {
  const answer: WorkspaceApplied = {
    ...{ vm: 'dev', dir: '/repo', applied: false, changes: [], files: 0, nested: [] },
    conflicts: [{ path: 'x', why: 'contents' }],
  };
  const answers = { 'workspace.apply': () => answer };
  const told = await fakeCli([...EXPORT, '--apply'], { answers });
  assert.equal(told.status, 1);
  assert.match(told.stderr, /1 conflict; nothing was written\n {2}x \(contents\)\n.*--conflict-markers/);
  const json = await fakeCli([...EXPORT, '--apply', '--json'], { answers });
  assert.equal(json.status, 1);
  assert.deepEqual(JSON.parse(json.stdout), answer);
});

test('a dry run says of conflicts what would come of them', async () => {
  const change = { path: 'other', kind: 'modified', insertions: 1, deletions: 2 } as const;
  const answer: WorkspaceApplied = {
    ...{ vm: 'dev', dir: '/repo', applied: false, changes: [change], files: 1, nested: [] },
    conflicts: [{ path: 'x', why: 'contents' }],
  };
  const answers = { 'workspace.apply': () => answer };
  const refused = await fakeCli([...EXPORT, '--apply', '--dry-run'], { answers });
  assert.equal(refused.stdout, '');
  assert.match(refused.stderr, /^dev: 1 conflict; nothing would be written\n/);
  const marked = await fakeCli([...EXPORT, '--apply', '--dry-run', '--conflict-markers'], { answers });
  assert.equal(marked.stdout, 'M other (+1 -2)\n');
  assert.match(
    marked.stderr,
    /^dev: 1 file would be written in \/repo\ndev: 1 conflict\n {2}x .*\nthe files would have/,
  );
});

test('what a branch leaves behind is told', async () => {
  const fetched: WorkspaceFetched = {
    ...{ vm: 'dev', dir: '/repo', branch: 'b', guestBranch: null, commit: 'cd'.repeat(20), oldCommit: null },
    ...{ commits: 2, uncommitted: 3 },
  };
  const told = await fakeCli([...EXPORT, '--branch', 'b'], { answers: { 'workspace.fetch': () => fetched } });
  assert.equal(told.stdout, "b in /repo is cdcdcdcdcdcd (new): the VM's HEAD, 2 commits\n");
  assert.match(told.stderr, /^dev: 3 files not committed there/);
});

for (const flags of [
  ['--apply', '--stat'],
  ['--apply', '--base-commit', 'HEAD'],
  ['--since-prepare', '--base-commit', 'HEAD'],
  ['--dry-run'],
  ['--conflict-markers', '--branch', 'b'],
  ['somewhere'],
  ['--json'],
]) {
  test(`${flags.join(' ')} is refused`, async () => {
    const { status, calls } = await fakeCli([...EXPORT, ...flags]);
    assert.equal(status, 2);
    assert.deepEqual(calls, []);
  });
}

test('addresses as git gives them', () => {
  assert.deepEqual(parseAddress('dev'), { vm: 'dev', path: null });
  assert.deepEqual(parseAddress('dev:/a:b'), { vm: 'dev', path: '/a:b' });
  assert.deepEqual(parseAddress('dev:a'), { vm: 'dev', path: 'a' });
  assert.deepEqual(parseAddress('banger://dev/a b'), { vm: 'dev', path: '/a b' });
  for (const bad of ['', ':a', 'dev:', '/dev', 'banger://'])
    assert.throws(() => parseAddress(bad), { code: 'usage' });
});

test('git is connected to its counterpart in the VM, after the words of a remote helper', async () => {
  const lines = ['capabilities', 'connect git-upload-pack'];
  let seen: ParamsOf<'vm.exec'> | undefined;
  let limit: Parameters<CliPorts['session']>[3];
  const { status, stdout } = await fakeCli(['__git-remote', '--', 'origin', 'dev'], {
    readCommandLine: () => lines.shift() ?? null,
    answers: { 'vm.show': () => ({ name: 'dev', workspace: { guestPath: '/root/repo' } }) as VmDetail },
    session: async (_client, params, _onFailure, limits) => {
      seen = params;
      limit = limits;
      return 0;
    },
  });
  assert.equal(status, 0);
  assert.equal(stdout, 'connect\n\n\n');
  assert.deepEqual(seen?.argv.slice(-3), ['upload-pack', '--', '/root/repo']);
  assert.equal(limit?.maxOutputBytes, 16 * 1024 ** 3);
  const other = await fakeCli(['__git-remote', '--', 'origin', 'dev:x'], {
    readCommandLine: () => 'connect git-upload-archive',
  });
  assert.equal(other.status, 125);
});
