/** Programs in a guest: exit statuses, bytes, signals, the environment, many at once. */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { settled, TestHome } from '../helpers/test-home.ts';

describe('vm exec', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    assert.equal(await home.ok(['vm', 'run', '-d', '--name', 'dev']), 'dev\n');
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  for (const [title, argv, status] of [
    ['0', ['true'], 0],
    ['7', ['sh', '-c', 'exit 7'], 7],
    ['255', ['sh', '-c', 'exit 255'], 255],
    ['127 of a program', ['sh', '-c', 'exit 127'], 127],
    ['of SIGKILL', ['sh', '-c', 'kill -KILL $$'], 137],
    ['of SIGSEGV', ['sh', '-c', 'kill -SEGV $$'], 139],
  ] as const) {
    test(`exit status ${title}, and not a word`, async () => {
      const { status: actual, stdout, stderr } = await home.run(['vm', 'exec', 'dev', '--', ...argv]);
      assert.deepEqual([actual, stdout.toString(), stderr], [status, '', '']);
    });
  }

  for (const [title, args, status, message] of [
    ['a program that does not exist', ['--', 'no-such-program'], 127, /cannot run the command in the guest/],
    ['a file that is no program', ['--', '/etc/passwd'], 126, /[Pp]ermission denied/],
    ['a directory', ['--', '/etc'], 126, /cannot run the command in the guest/],
    ['a working directory that does not exist', ['-w', '/none', '--', 'true'], 125, /working directory/],
    ['a user that does not exist', ['-u', 'nobody-of-that-name', '--', 'true'], 125, /no such user/],
  ] as const) {
    test(`${title}: ${status} and why`, async () => {
      const outcome = await home.run(['vm', 'exec', 'dev', ...args]);
      assert.equal(outcome.status, status, outcome.stderr);
      assert.match(outcome.stderr, message);
      assert.equal(outcome.stdout.length, 0);
    });
  }

  test('a VM that does not exist: 125 and its name', async () => {
    const outcome = await home.run(['vm', 'exec', 'nobody', '--', 'true']);
    assert.equal(outcome.status, 125);
    assert.match(outcome.stderr, /^banger: .*"nobody"/);
  });

  test('stdout and stderr stay apart, stdin reaches its end', async () => {
    const script = 'echo out; echo err >&2; cat; echo done >&2';
    const outcome = await home.run(['vm', 'exec', 'dev', '--', 'sh', '-c', script], { input: 'typed\n' });
    assert.deepEqual(
      [outcome.status, outcome.stdout.toString(), outcome.stderr],
      [0, 'out\ntyped\n', 'err\ndone\n'],
    );
  });

  test('every byte value, both ways', async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, value) => value));
    const same = await home.run(['vm', 'exec', 'dev', '--', 'cat'], { input: bytes });
    assert.deepEqual(same.stdout, bytes);
    assert.equal(same.stderr, '');
  });

  test('random bytes of odd sizes come back as they went', async () => {
    for (const size of [0, 1, 4095, 65_537, 1_000_003]) {
      const bytes = randomBytes(size);
      const outcome = await home.run(['vm', 'exec', 'dev', '--', 'cat'], { input: bytes });
      assert.equal(outcome.status, 0, outcome.stderr);
      assert.ok(outcome.stdout.equals(bytes), `${size} bytes`);
    }
  });

  test('bytes on stderr are as safe', async () => {
    const seen = await home.guest(
      'dev',
      'sh',
      '-c',
      'head -c 300000 /dev/urandom > /root/random; sha256sum < /root/random',
    );
    const running = home.start(['vm', 'exec', 'dev', '--', 'sh', '-c', 'cat /root/random >&2']);
    const hash = createHash('sha256');
    running.child.stderr.on('data', (chunk: Buffer) => hash.update(chunk));
    assert.equal((await running.done).status, 0);
    assert.equal(`${hash.digest('hex')}  -`, seen);
  });

  test('a reader of stdout that goes away ends the program', async () => {
    const running = home.start(['vm', 'exec', 'dev', '--', 'bash', '-c', 'exec -a endless-yes yes'], {
      holdOutput: true,
    });
    await new Promise((resolve) => running.child.stdout.once('readable', resolve));
    running.child.stdout.destroy();
    assert.equal((await running.done).status, 141);
    await gone(home, 'endless-yes');
  });

  test('the environment: NAME=VALUE, the value of this shell, a value with spaces and newlines', async () => {
    const args = ['-e', 'A=1 2\n3', '-e', 'B=', '-e', 'FROM_HOST', '-e', 'NOT_THERE'];
    const script = 'printf "%s|%s|%s|%s" "$A" "${B-unset}" "$FROM_HOST" "${NOT_THERE-unset}"';
    const out = await home.ok(['vm', 'exec', 'dev', ...args, '--', 'sh', '-c', script], {
      env: { FROM_HOST: 'täglich' },
    });
    assert.equal(out, '1 2\n3||täglich|unset');
  });

  test("nothing of the host's environment is there unasked", async () => {
    const out = await home.ok(['vm', 'exec', 'dev', '--', 'env'], { env: { SECRET_OF_HOST: 'x' } });
    assert.doesNotMatch(out, /SECRET_OF_HOST|BANGER_HOME/);
    assert.match(out, /^HOME=\/root$/m);
    assert.match(out, /^PATH=.*\/usr\/bin/m);
  });

  test('the working directory, and the user with its own home', async () => {
    assert.equal(await home.ok(['vm', 'exec', 'dev', '-w', '/usr/lib', '--', 'pwd']), '/usr/lib\n');
    assert.equal(await home.guest('dev', 'pwd'), '/root');
    const script = 'id -un; id -gn; echo "$HOME"; echo "$USER"';
    const out = await home.ok(['vm', 'exec', 'dev', '-u', 'games', '-w', '/', '--', 'sh', '-c', script]);
    assert.equal(out, 'games\ngames\n/usr/games\ngames\n');
    assert.equal(await home.ok(['vm', 'exec', 'dev', '-u', '12:34', '-w', '/', '--', 'id', '-u']), '12\n');
    assert.equal(await home.ok(['vm', 'exec', 'dev', '-u', '12:34', '-w', '/', '--', 'id', '-g']), '34\n');
  });

  test('arguments arrive as they are: empty, spaces, quotes, newline, a leading dash', async () => {
    const odd = ['', ' a  b ', `'"$HOME"'`, 'line\nline', '-e', '--', '*', 'ünïcode'];
    const out = await home.ok(['vm', 'exec', 'dev', '--', 'printf', '<%s>', ...odd]);
    assert.equal(out, odd.map((argument) => `<${argument}>`).join(''));
  });

  test('without a command: a shell that reads stdin, and its status', async () => {
    const outcome = await home.run(['vm', 'exec', 'dev'], { input: 'echo hi from $(hostname)\nexit 3\n' });
    assert.deepEqual([outcome.status, outcome.stdout.toString()], [3, 'hi from dev\n']);
  });

  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
    ['SIGUSR1', 10],
  ] as const) {
    test(`${signal} reaches the program, whose status counts`, async () => {
      const trap = `trap 'echo caught; exit 42' ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`;
      const caught = home.start(['vm', 'exec', 'dev', '--', 'bash', '-c', trap]);
      await settled(() => caught.stdout().includes('ready'));
      caught.child.kill(signal);
      const outcome = await caught.done;
      assert.deepEqual([outcome.status, outcome.stdout.toString()], [42, 'ready\ncaught\n']);
    });

    test(`${signal} that nobody catches: ${128 + number}`, async () => {
      const script = 'echo ready; exec sleep 1000';
      const running = home.start(['vm', 'exec', 'dev', '--', 'sh', '-c', script]);
      await settled(() => running.stdout().includes('ready'));
      running.child.kill(signal);
      assert.equal((await running.done).status, 128 + number);
    });
  }

  test('a second Ctrl-C gives a program up that ignores the first, and kills it', async () => {
    const script = "trap '' INT TERM HUP; echo ready; while :; do sleep 0.1; done # stubborn";
    const running = home.start(['vm', 'exec', 'dev', '--', 'bash', '-c', script]);
    await settled(() => running.stdout().includes('ready'));
    running.child.kill('SIGINT');
    await new Promise((resolve) => setTimeout(resolve, 100));
    running.child.kill('SIGINT');
    assert.equal((await running.done).status, 130);
    await gone(home, 'stubborn');
  });

  test('a client that is killed: its program gets SIGHUP and is gone', async () => {
    // Its own words about the end of `sleep` would end it early: nobody reads its stderr any more.
    const script =
      "exec 2>/dev/null; trap 'echo hup > /root/hup; exit' HUP; echo ready; while :; do sleep 0.05; done # orphan";
    const running = home.start(['vm', 'exec', 'dev', '--', 'bash', '-c', script]);
    await settled(() => running.stdout().includes('ready'));
    running.child.kill('SIGKILL');
    assert.equal((await running.done).signal, 'SIGKILL');
    await gone(home, 'orphan');
    assert.equal(await home.guest('dev', 'cat', '/root/hup'), 'hup');
  });

  test("the program's end is the end, though another process holds its stdout open; that one goes on", async () => {
    assert.equal(await home.guest('dev', 'sh', '-c', 'sleep 987 & echo first'), 'first');
    assert.equal(await home.guest('dev', 'pkill', '-cf', '[s]leep 987'), '1');
  });

  test('thirty at once, each with its own input, output and status', async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 30 }, (_, index) =>
        home.run(['vm', 'exec', 'dev', '--', 'sh', '-c', `cat; exit ${index}`], { input: `input ${index}` }),
      ),
    );
    for (const [index, { status, stdout, stderr }] of outcomes.entries()) {
      assert.deepEqual([status, stdout.toString(), stderr], [index, `input ${index}`, '']);
    }
  });

  test('with --json a failure is JSON on stderr', async () => {
    const outcome = await home.run(['vm', 'exec', 'dev', '--json', '--', 'no-such-program']);
    assert.equal(outcome.status, 127);
    const { error } = JSON.parse(outcome.stderr) as { error: { code: string; message: string } };
    assert.match(error.message, /cannot run the command/);
  });

  test('after all of this nothing but the agent and this very command runs in the guest', async () => {
    const processes = await home.guest(
      'dev',
      'ps',
      '--no-headers',
      '--ppid',
      '2',
      '--deselect',
      '-o',
      'args',
    );
    const programs = processes.split('\n').filter((line) => !/^(\[kthreadd\]|\/init|ps )/.test(line.trim()));
    assert.deepEqual(programs, []);
  });
});

/** Waits until no process of the guest has the word in its command line. */
async function gone(home: TestHome, word: string): Promise<void> {
  // In brackets, so that the command does not find itself.
  const pattern = `[${word.slice(0, 1)}]${word.slice(1)}`;
  const search = ['vm', 'exec', 'dev', '--', 'pgrep', '-af', pattern];
  await settled(async () => (await home.run(search)).status === 1);
  const { status, stdout } = await home.run(search);
  assert.equal(status, 1, stdout.toString());
}
