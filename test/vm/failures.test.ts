/** What goes wrong is said clearly, with what to do, within a bounded time; and nothing of it is left. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeRepo } from '../fixtures/make-repo.ts';
import { isAlive, settled, TestHome } from '../helpers/test-home.ts';

/** Banger waits long for a guest that may only be slow: begun first, so that all the tests of this file pass the time. */
let slowHome: TestHome;
let hanging: ReturnType<TestHome['start']>;
let hangingOnce: ReturnType<TestHome['start']>;
before(async () => {
  slowHome = new TestHome();
  hanging = slowHome.start(['vm', 'run', '--rm', '--name', 'hanging', '--', 'true']);
  hangingOnce = slowHome.start(['vm', 'run', '--rm', '--name', 'hangs-once', '--', 'echo', 'up']);
  await freeze(slowHome, 'hangs-once', new Set());
  void freezeEach(slowHome, 'hanging', hanging.done);
});
after(async () => {
  await slowHome[Symbol.asyncDispose]();
});

const notRoot = process.getuid?.() === 0 ? false : 'only root may mount';

/** Fails as promised: that status, that message, no bug of ours, nothing left. */
async function refused(
  home: TestHome,
  args: readonly string[],
  status: number,
  message: RegExp,
  settings: { readonly env?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  const outcome = await home.run(args, settings);
  const context = `banger ${args.join(' ')}: ${outcome.stderr}`;
  assert.equal(outcome.status, status, context);
  assert.match(outcome.stderr, message);
  assert.match(outcome.stderr, /^banger: /, context);
  assert.doesNotMatch(outcome.stderr, /internal error|\n {4}at /, context);
  assert.equal(outcome.stdout.length, 0, context);
}

describe('wrong requests', () => {
  let home: TestHome;
  let vmDir: string;
  before(async () => {
    home = new TestHome();
    await home.ok(['vm', 'create', '--no-start', '--name', 'taken']);
    ({ vmDir } = await home.show('taken'));
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  for (const [name, message] of [
    ['UPPER', /capital letters/],
    ['with space', /contains " "/],
    ['under_score', /contains "_"/],
    ['-leading', /-leading|begins with a hyphen/],
    ['trailing-', /ends with a hyphen/],
    ['dot.ted', /contains "\."/],
    ['a'.repeat(64), /64 characters; the limit is 63/],
    ['', /--name needs a value/],
    ['ünïcode', /contains "ü"/],
    ['localhost', /reserved/],
    ['0123456789ab', /looks like a VM id/],
    ['../../etc', /contains/],
  ] as const) {
    test(`the name ${JSON.stringify(name)}`, async () => {
      const { status, stderr } = await home.run(['vm', 'create', `--name=${name}`]);
      assert.ok(status === 1 || status === 2, `${status}: ${stderr}`);
      assert.match(stderr, message);
    });
  }

  test('a name that is taken', async () => {
    await refused(
      home,
      ['vm', 'create', '--name', 'taken'],
      1,
      /VM name "taken" is taken\nbanger vm show taken/,
    );
  });

  for (const [args, status, message] of [
    [['--vcpu', '0'], 2, /vcpu|vCPU/],
    [['--vcpu', '-1'], 2, /vcpu|vCPU/],
    [['--vcpu', '1.5'], 2, /vcpu|vCPU/],
    [['--vcpu', '100000'], 1, /100000 vCPUs are more than the limit/],
    [['--vcpu', 'many'], 2, /many/],
    [['--memory', '0'], 2, /above zero/],
    [['--memory', '64M'], 1, /memory must be at least 128 MiB/],
    [['--memory', '-1G'], 2, /negative/],
    [['--memory', '1000T'], 1, /more than the limit of \d+ MiB, all this host has/],
    [['--memory', 'lots'], 2, /"lots" is not a size/],
    [['--disk-size', '0'], 2, /above zero/],
    [['--disk-size', '100M'], 1, /at least 1 GiB/],
    [['--disk-size', '-5G'], 2, /negative/],
    [['--disk-size', '1000T'], 1, /more than the limit/],
    [['--disk-size', '1G'], 1, /needs a disk of at least|at least/],
    [['--image', 'no-such-image'], 1, /no-such-image/],
    [['--image', '../escape'], 1, /contains|begins with/],
    [['--init', 'upstart'], 2, /upstart/],
    [['--no-such-flag'], 2, /no-such-flag/],
    [['one', 'two'], 2, /two|argument/],
  ] as const) {
    test(`vm create ${args.join(' ')}`, async () => {
      await refused(home, ['vm', 'create', ...args], status, message);
      assert.deepEqual(
        (await home.vms()).map((vm) => vm.name),
        ['taken'],
      );
      assert.deepEqual(home.leftovers(), [vmDir]);
    });
  }

  for (const [args, status] of [
    [['vm', 'frobnicate'], 2],
    [['frobnicate'], 2],
    [['vm', 'exec'], 2],
    [['vm', 'exec', 'taken', '--bogus', '--', 'true'], 2],
    [['vm', 'stop'], 2],
    [['vm', 'stop', 'nobody'], 1],
    [['vm', 'stop', 'taken'], 1],
    [['vm', 'exec', 'taken', '--', 'true'], 125],
    [['vm', 'run', '--rm', '--detach'], 2],
    [['image', 'show', 'no-such-image'], 1],
    [['image', 'build', 'no-such-image'], 1],
    [['kernel', 'show', 'no-such-kernel'], 1],
  ] as const) {
    test(`banger ${args.join(' ')}`, async () => {
      await refused(home, args, status, /^banger: ./);
    });
  }

  test('with --json the same failure is one line of JSON', async () => {
    const outcome = await home.run(['vm', 'create', '--name', 'taken', '--json']);
    assert.equal(outcome.status, 1);
    const { error } = JSON.parse(outcome.stderr) as { error: Record<string, string> };
    assert.equal(error['code'], 'already_exists');
    assert.match(error['operationId'] ?? '', /^[0-9a-f]{12}$/);
    assert.ok(home.log().includes(error['operationId'] ?? '-'), 'the log knows the operation');
  });
});

describe('a host that lacks something', () => {
  test('QEMU is not there', async () => {
    await using home = new TestHome();
    configure(home, `qemu_bin = "${home.dir}/no-such-qemu"`);
    await refused(
      home,
      ['vm', 'run', '--rm', '--', 'true'],
      125,
      /no-such-qemu" is not installed|no-such-qemu/,
    );
    await home.assertNothingLeft();
  });

  test('QEMU dies at start: its last words are shown', async () => {
    await using home = new TestHome();
    const program = join(home.dir, 'dying-qemu');
    const script =
      '#!/bin/sh\n[ "$1" = --version ] && exec qemu-system-x86_64 --version\necho "these are its last words" >&2\nexit 3\n';
    writeFileSync(program, script);
    chmodSync(program, 0o755);
    configure(home, `qemu_bin = "${program}"`);
    await refused(home, ['vm', 'run', '--rm', '--', 'true'], 125, /these are its last words/);
    await home.assertNothingLeft();
  });

  test('a config file with a mistake: its line, its column and what is allowed', async () => {
    await using home = new TestHome();
    configure(home, 'log_level = "info"\nqemu_binary = "x"');
    const { status, stderr } = await home.run(['vm', 'list']);
    assert.equal(status, 1);
    assert.match(stderr, /config\.toml:2:1: unknown key "qemu_binary"/);
    configure(home, '');
    await home.ok(['vm', 'list']);
  });

  test('a socket path that is too long', async () => {
    await using home = new TestHome();
    const long = join(home.dir, 'x'.repeat(100));
    mkdirSync(long, { mode: 0o700 });
    const message = /is \d+ bytes long; Unix allows 107\nset BANGER_HOME/;
    await refused(home, ['vm', 'list'], 1, message, { env: { BANGER_HOME: long } });
    await refused(home, ['vm', 'run', '--', 'true'], 125, message, { env: { BANGER_HOME: long } });
  });

  test('a state directory that others can enter, or that is a link', async () => {
    await using home = new TestHome();
    const state = join(home.dir, 'state');
    chmodSync(state, 0o755);
    await refused(home, ['vm', 'list'], 1, /is open to other users \(mode 0755\)/);
    chmodSync(state, 0o700);
    const linked = join(home.dir, 'linked');
    mkdirSync(linked, { mode: 0o700 });
    symlinkSync(state, join(linked, 'state'));
    await refused(home, ['vm', 'list'], 1, /is a symbolic link/, { env: { BANGER_HOME: linked } });
    await home.ok(['vm', 'list']);
  });

  test('no space left for the disk, or for the workspace', { skip: notRoot }, async () => {
    await using home = new TestHome();
    const repo = join(home.dir, 'repo');
    await makeRepo(repo, { files: 100, bytes: 12_000_000, commits: 1 });
    for (const [size, message] of [
      ['64k', /no space left/i],
      ['1500k', /no space left/i],
    ] as const) {
      await home.ok(['daemon', 'start']);
      const vms = join(home.dir, 'state', 'vms');
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=700`, 'tmpfs', vms]);
      try {
        await refused(home, ['vm', 'run', '--rm', repo, '--', 'true'], 125, message);
        await home.assertNothingLeft();
      } finally {
        await home.ok(['daemon', 'stop']);
        execFileSync('umount', [vms]);
      }
    }
  });
});

describe('a guest that does not come up', () => {
  let home: TestHome;
  before(() => {
    home = slowHome;
  });

  test('a disk that QEMU cannot read: QEMU says so, the VM stays in error, with the reason', async () => {
    await home.ok(['vm', 'create', '--name', 'broken', '--no-start']);
    const { vmDir } = await home.show('broken');
    mkdirSync(vmDir, { recursive: true, mode: 0o700 });
    writeFileSync(join(vmDir, 'root.qcow2'), 'this is no disk image');
    await refused(
      home,
      ['vm', 'start', 'broken'],
      1,
      /VM "broken" did not come up: QEMU ended \(exit status 1\): .*not in qcow2 format/,
    );
    const { state, runtime, pid } = await home.show('broken');
    assert.deepEqual([state, pid], ['error', null]);
    assert.match(String(runtime.lastError), /qcow2/);
    await home.ok(['vm', 'delete', 'broken']);
  });

  test('a root disk without a file system: what the guest said is shown', async () => {
    await home.ok(['vm', 'create', '--name', 'blank', '--no-start']);
    const { vmDir } = await home.show('blank');
    mkdirSync(vmDir, { recursive: true, mode: 0o700 });
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', join(vmDir, 'root.qcow2'), '8G']);
    await refused(home, ['vm', 'start', 'blank'], 1, /VM "blank" did not come up: .*(mount|root)/s);
    assert.equal((await home.show('blank')).state, 'error');
    await home.ok(['vm', 'delete', 'blank']);
  });

  test('QEMU killed while the guest boots', async () => {
    const running = home.start(['vm', 'run', '--rm', '--name', 'killed', '--', 'true']);
    const find = () => home.processes().find(({ command }) => command.includes('guest=killed'));
    await settled(() => find() !== undefined);
    const pid = find()?.pid ?? 0;
    process.kill(pid, 'SIGKILL');
    const { status, stderr } = await running.done;
    assert.equal(status, 125);
    assert.match(stderr, /^banger: .*SIGKILL/s);
    assert.ok(!isAlive(pid));
    assert.ok(!(await home.vms()).some((vm) => vm.name === 'killed'));
  });

  test('one that hangs is started once more', async () => {
    const { status, stdout } = await hangingOnce.done;
    assert.deepEqual([status, stdout.toString()], [0, 'up\n']);
    assert.match(home.log(), /the guest gave no sign of life; starting it again/);
  });

  test('one that never answers is given up in bounded time, and nothing of it is left', async () => {
    const { status, stderr } = await hanging.done;
    assert.equal(status, 125);
    assert.match(stderr, /^banger: VM "hanging" did not come up: .* did not answer within \d+ s$/m);
    await home.assertNothingLeft();
  });
});

/** Stops the VMM of a VM as soon as there is one that was not stopped before; its guest can answer no more. */
async function freeze(home: TestHome, name: string, frozen: Set<number>): Promise<void> {
  // By its arguments alone: this looks for as long as the whole file takes.
  const find = () =>
    home
      .commandLines(home.dir)
      .find(({ command, pid }) => command.includes(`guest=${name}`) && !frozen.has(pid));
  await settled(() => find() !== undefined);
  const pid = find()?.pid;
  if (pid === undefined) return;
  frozen.add(pid);
  process.kill(pid, 'SIGSTOP');
}

async function freezeEach(home: TestHome, name: string, until: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  void until.then(() => over.abort());
  const frozen = new Set<number>();
  while (!over.signal.aborted) await freeze(home, name, frozen);
}

function configure(home: TestHome, text: string): void {
  writeFileSync(join(home.dir, 'config', 'config.toml'), `${text}\n[templates]\nmax_size = 0\n`);
}
