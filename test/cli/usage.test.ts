import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeCli } from './fake-cli.ts';

/** Wrong command lines, and what the first line of the complaint must say. */
const WRONG: readonly (readonly [line: string, message: RegExp])[] = [
  ['frobnicate', /^banger: unknown command "frobnicate"\n/],
  ['state foo', /^banger: unknown command "state foo"\nrun /],
  ['vm rum', /^banger: unknown command "vm rum"\ndid you mean "banger vm run"\?\n/],
  ['constructor', /^banger: unknown command "constructor"\n/],
  ['vm run --memroy 4G', /^banger: unknown flag --memroy\ndid you mean --memory\?\n/],
  ['vm run --constructor x', /^banger: unknown flag --constructor\n/],
  ['vm list -x', /^banger: unknown flag -x\n/],
  ['vm run -eA=1', /^banger: unknown flag -eA=1\nput a space between: -e A=1\n/],
  ['vm run --name=', /^banger: --name needs a value\n/],
  ['vm run --name', /^banger: --name needs a value\n/],
  ['vm run --name a --name b', /^banger: --name was given twice\n/],
  ['vm run . ls', /^banger: unexpected argument "ls"\nput -- before the command: /],
  ['vm list extra', /^banger: unexpected argument "extra"\nrun /],
  ['vm show', /^banger: VM is missing\n/],
  ['vm stop', /^banger: VM is missing\n/],
  ['vm create --vcpu 0', /^banger: --vcpu: 0 is too small: at least 1\n/],
  ['vm create --vcpu -3', /^banger: --vcpu: -3 is too small/],
  ['vm create --vcpu 1.5', /^banger: --vcpu: "1.5" is not a whole number\n/],
  ['vm create --memory 0', /^banger: --memory: a size is above zero\n/],
  ['vm create --memory -5G', /^banger: --memory: .*negative/],
  ['vm create --memory lots', /^banger: --memory: .*"lots" is not a size\n/],
  ['vm create --memory 1000B', /^banger: --memory: 1000 bytes is not a whole number of MiB\n/],
  ['vm create -p web', /^banger: --publish: "web" is no port to publish\n/],
  ['vm run -p ::1:80:80', /^banger: --publish: "::1:80:80" is no port to publish\n/],
  ['vm run -p 80:0', /^banger: --publish: 0 is no port of a VM: 1 to 65535\n/],
  ['vm create --init busybox', /^banger: --init cannot be "busybox"\nit is one of agent, systemd\n/],
  ['vm create . --no-start', /^banger: --no-start takes no path/],
  ['vm create -- . ls', /^banger: unexpected argument "ls"\nrun /],
  ['vm list -- -x', /^banger: unexpected argument "-x"\nrun /],
  ['vm show --', /^banger: VM is missing\n/],
  ['vm logs dev -n -- 3', /^banger: --tail needs a value\n/],
  ['vm run --', /^banger: a command is missing after "--"\n/],
  ['vm run -d --rm', /^banger: --detach and --rm exclude each other/],
  ['vm run -d -- ls', /^banger: --detach takes no command/],
  ['vm run . --from main', /^banger: --from needs --branch/],
  ['vm run --branch b', /^banger: --branch needs a path/],
  ['vm run --include-untracked', /^banger: --include-untracked needs a path/],
  ['vm run --dry-run', /^banger: --dry-run needs a path/],
  ['vm exec dev -t -T', /^banger: --tty and --no-tty exclude each other\n/],
  ['vm exec dev -e =x', /^banger: --env: "=x" has no name before the "="\n/],
  [
    'vm exec dev ls',
    /^banger: unexpected argument "ls"\nput -- before the command: banger vm exec … -- ls\n/,
  ],
  ['vm set dev', /^banger: nothing to change/],
  ['vm set dev --nat --no-nat', /^banger: --nat and --no-nat exclude each other\n/],
  ['vm logs dev -n many', /^banger: --tail: "many" is not a whole number\n/],
  ['vm prune', /^banger: refusing to delete VMs without asking/],
  ['completion powershell', /^banger: there is no completion for "powershell"\n/],
];

for (const [line, message] of WRONG) {
  test(`banger ${line}: usage error, status 2, nothing asked`, async () => {
    const { status, stdout, stderr, connects } = await fakeCli(line.split(' '));
    assert.match(stderr, message);
    assert.equal(status, 2);
    assert.equal(stdout, '');
    assert.deepEqual(connects, []);
  });
}

test('behind "--" are arguments, whatever they begin with', async () => {
  const { calls, status, stderr } = await fakeCli(['vm', 'cp', '--json', '--', '-L', 'dev:--help'], {
    answers: {
      'vm.cp': () => ({
        ...{ vm: 'dev', files: 1, directories: 0, links: 0, bytes: 0 },
        ...{ skipped: [], skippedCount: 0 },
      }),
    },
  });
  assert.equal(status, 0, stderr);
  assert.deepEqual(
    calls.map(({ params }) => params),
    [{ ref: 'dev', guestPath: '--help', to: 'guest', hostPath: '/home/dev/project/-L', follow: false }],
  );
});

test('an empty argument is refused', async () => {
  const { status, stderr } = await fakeCli(['vm', 'run', '']);
  assert.match(stderr, /^banger: an argument is empty\n/);
  assert.equal(status, 2);
});

test('with --json usage errors are one JSON line on stderr', async () => {
  for (const argv of [
    ['vm', 'list', '--json', '--bogus'],
    ['vm', 'bogus', '--json'],
    ['vm', 'prune', '--json'],
    ['vm', 'run', '--json'],
  ]) {
    const { stderr, status } = await fakeCli(argv);
    assert.equal(status, 2);
    const parsed = JSON.parse(stderr) as { error: { code: string; message: string } };
    assert.equal(parsed.error.code, 'usage');
    assert.ok(parsed.error.message.length > 0);
  }
});

test("--json of the guest's command is not banger's", async () => {
  const { stderr } = await fakeCli(['vm', 'show', '--', '--json']);
  assert.match(stderr, /^banger: /);
});

test('no command, --help, -h and help print help on stdout with status 0', async () => {
  for (const argv of [[], ['--help'], ['-h'], ['help'], ['vm'], ['help', 'vm', 'run'], ['vm', 'run', '-h']]) {
    const { status, stdout, stderr } = await fakeCli(argv);
    assert.equal(status, 0, argv.join(' '));
    assert.match(stdout, /USAGE/);
    assert.equal(stderr, '');
  }
});
