/** Tools that a repository asks for, in a guest. mise is a script that says what it was called with. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { VmCreated } from '../../src/api/results/vm.ts';
import { TestHome } from '../helpers/test-home.ts';

const GIT = ['-c', 'user.name=A', '-c', 'user.email=a@example.com'];

/** Notes its arguments, installs only while it is let, and runs commands with a variable that shows it did. */
const FAKE_MISE = `#!/bin/sh
echo "$PWD: $*" >>/root/mise-calls
case $1 in
  install) test -e /root/mirror || { echo "error: no mirror for $*"; exit 3; } ;;
  exec) while [ "$1" != -- ]; do shift; done; shift; WITH_MISE=1 exec "$@" ;;
esac
`;

function commit(repo: string): void {
  execFileSync('git', ['-C', repo, 'add', '--all']);
  execFileSync('git', ['-C', repo, ...GIT, 'commit', '--quiet', '--message', 'x']);
}

describe('tools of the repository', () => {
  let home: TestHome;
  let repo: string;
  before(() => {
    home = TestHome.warm();
    repo = join(home.dir, 'project');
    mkdirSync(repo);
    execFileSync('git', ['init', '--quiet', '--initial-branch=main', repo]);
    writeFileSync(join(repo, '.mise.toml'), '[tools]\nnode = "20"\n');
    writeFileSync(join(repo, 'go.mod'), 'module x\n\ngo 1.22\n');
    commit(repo);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('without a network: refused with tools, file and flags, and nothing is made', async () => {
    for (const argv of [
      ['run', '--rm', repo, '--', 'true'],
      ['run', '-d', repo],
      ['create', repo],
    ]) {
      const { status, stderr } = await home.run(['vm', ...argv]);
      assert.equal(status, argv.includes('--') ? 125 : 1, stderr);
      assert.match(stderr, /node 20 \(\.mise\.toml:2\), go 1\.22 \(go\.mod:3\)/);
      assert.match(stderr, /add --nat .* or --no-bootstrap/);
    }
    assert.deepEqual(await home.vms(), []);
    await home.assertNothingLeft();
  });

  test('an image without mise: no command is run, and it is said why', async () => {
    const made = await home.run(['vm', 'run', '--nat', '--name', 'dev', repo, '--', 'touch', '/root/ran']);
    assert.equal(made.status, 125, made.stderr);
    assert.match(made.stderr, /image "debian-bookworm" has no mise/);
    assert.match(made.stderr, /banger vm bootstrap dev/);
    assert.equal((await home.run(['vm', 'exec', 'dev', '--', 'test', '-e', '/root/ran'])).status, 1);
  });

  test('mise fails: its last words, its log, and commands run as before', async () => {
    const script = 'mkdir -p /root/.local/bin; cat >/root/.local/bin/mise; chmod 755 /root/.local/bin/mise';
    const put = await home.run(['vm', 'exec', 'dev', '--', 'sh', '-c', script], { input: FAKE_MISE });
    assert.equal(put.status, 0, put.stderr);
    const failed = await home.run(['vm', 'bootstrap', 'dev']);
    assert.equal(failed.status, 1);
    assert.match(failed.stderr, /mise ended with status 3\n[^]*error: no mirror for install/);
    assert.match(
      failed.stderr,
      /its log: banger vm exec -w \/ dev -- cat \/var\/log\/banger-bootstrap\.log; to try/,
    );
    assert.equal(await home.guest('dev', 'sh', '-c', 'echo "$WITH_MISE"'), '');
  });

  test('mise installs: trusted, its own tools, then the others; commands in the copy run with it', async () => {
    await home.guest('dev', 'sh', '-c', 'rm /root/mise-calls; touch /root/mirror');
    const done = await home.run(['vm', 'bootstrap', 'dev']);
    assert.equal(done.stdout.toString(), 'installed with /root/.local/bin/mise\n', done.stderr);
    assert.equal(
      await home.ok(['vm', 'exec', '-w', '/', 'dev', '--', 'cat', '/root/mise-calls']),
      '/root/repo: trust /root/repo/.mise.toml\n/root/repo: install\n/root/repo: install go@1.22\n',
    );
    const seen = ['sh', '-c', 'echo "$WITH_MISE:$PWD:$1"', 'sh', 'a  b'];
    assert.equal(await home.guest('dev', ...seen), '1:/root/repo:a  b');
    assert.equal((await home.run(['vm', 'exec', 'dev', '--', 'sh', '-c', 'kill -TERM $$'])).status, 143);
    const elsewhere = await home.run(['vm', 'exec', '-w', '/tmp', 'dev', '--', ...seen]);
    assert.equal(elsewhere.stdout.toString(), ':/tmp:a  b\n');
    assert.match(
      await home.guest('dev', 'tail', '-n', '1', '/root/mise-calls'),
      /^\/root\/repo: exec go@1\.22 -- tail/,
    );
    assert.match(
      await home.guest('dev', 'cat', '/var/log/banger-bootstrap.log'),
      /^\+ \/root\/\.local\/bin\/mise trust/,
    );
  });

  test('other tools are asked for: told once, commands run without mise until they are installed', async () => {
    const withMise = () => home.guest('dev', 'sh', '-c', 'echo "$WITH_MISE"');
    const prepare = async () => (await home.run(['vm', 'workspace', 'prepare', 'dev'])).stderr;
    writeFileSync(join(repo, 'other'), 'x\n');
    commit(repo);
    assert.doesNotMatch(await prepare(), /asks for/);
    assert.equal(await withMise(), '1');
    writeFileSync(join(repo, '.mise.toml'), '[tools]\nnode = "22"\n');
    assert.match(await prepare(), /asks for node 22 .*; not installed in dev: banger vm bootstrap dev\n/);
    assert.equal(await withMise(), '');
    assert.doesNotMatch(await prepare(), /asks for/);
    await home.ok(['vm', 'bootstrap', 'dev']);
    assert.equal(await withMise(), '1');
    assert.doesNotMatch(await prepare(), /asks for/);
    writeFileSync(join(repo, '.mise.toml'), '[tools]\nnode = "20"\n');
    const both = await home.run([
      'vm',
      'exec',
      'dev',
      '--auto-prepare',
      '--',
      'sh',
      '-c',
      'echo "$WITH_MISE"',
    ]);
    assert.match(both.stderr, /asks for node 20/);
    await home.ok(['vm', 'bootstrap', 'dev']);
  });

  test('a restarted daemon knows it; a setting counts from its start on, and is missed until then', async () => {
    const settings = join(home.dir, 'config', 'config.toml');
    const changed = readFileSync(settings, 'utf8').replace('[vm_defaults]\n', '[vm_defaults]\nnat = true\n');
    writeFileSync(settings, changed);
    const stale = await home.run(['config', 'show']);
    assert.match(stale.stderr, /^note: the running daemon has other settings: vm_defaults\.nat\n/);
    await home.run(['daemon', 'stop']);
    assert.equal(await home.guest('dev', 'sh', '-c', 'echo "$WITH_MISE"'), '1');
    assert.equal((await home.run(['config', 'show'])).stderr, '');
    const made = async (...flags: readonly string[]) =>
      (await home.json<VmCreated>(['vm', 'create', '--no-start', ...flags])).vm.spec.nat;
    assert.deepEqual([await made(), await made('--no-nat')], [true, false]);
  });

  test('a plain repo with a wish: one line, and the command runs', async () => {
    rmSync(join(repo, '.mise.toml'));
    commit(repo);
    await home.run(['vm', 'delete', 'dev']);
    const outcome = await home.run(['vm', 'run', '--rm', '--no-nat', repo, '--', 'cat', 'go.mod']);
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.match(outcome.stderr, /^banger: the repo asks for go 1\.22 \(go\.mod:3\); not installed \(--nat/);
  });
});
