/** The way to the agent: whole in each copy at once, and undisturbed in the source. */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { drop, fork, snapshot, source } from '../../helpers/copies.ts';
import { type Running, settled, TestHome } from '../../helpers/test-home.ts';

const LARGE_BYTES = 8 * 1024 * 1024;
const COUNTER = 'i=0; while ! read -r -t 0.02; do i=$((i+1)); echo $i; done; exit 7';

describe('the agent in copies', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    await source(home);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('commands, their input, their output and their status, right away', async () => {
    const copies = await fork(home, 'dev', 2);
    const input = randomBytes(LARGE_BYTES);
    await Promise.all(
      [...copies, 'dev'].map(async (vm) => {
        const { stdout, status } = await home.run(['vm', 'exec', vm, '--', 'cat'], { input });
        assert.equal(status, 0);
        assert.equal(sha256(stdout), sha256(input), vm);
        assert.equal((await home.run(['vm', 'exec', vm, '--', 'sh', '-c', 'exit 42'])).status, 42);
      }),
    );
    await drop(home, copies);
  });

  test('a session that is open in the source streams on, in both directions, over forks and snapshots', async () => {
    const counter = home.start(['vm', 'exec', 'dev', '--', 'bash', '-c', COUNTER], { keepInput: true });
    const large = home.start(
      ['vm', 'exec', 'dev', '--', 'sh', '-c', 'head -c 64M /dev/zero | sha256sum; cat'],
      {
        keepInput: true,
      },
    );
    await settled(() => counter.stdout() !== '');
    const copies = await fork(home, 'dev', 1);
    await snapshot(home, 'dev', 'busy');
    await snapshot(home, 'dev', 'disk-of-busy');
    await countsOn(counter);
    large.child.stdin.end('the end\n');
    counter.child.stdin.end('enough\n');
    const { status, stdout } = await counter.done;
    assert.equal(status, 7);
    const numbers = stdout.toString().trim().split('\n').map(Number);
    assert.deepEqual(
      numbers,
      numbers.map((_, index) => index + 1),
    );
    const outcome = await large.done;
    assert.equal(outcome.status, 0);
    assert.match(outcome.stdout.toString(), /^[0-9a-f]{64} .*\nthe end\n$/s);
    // In a copy nobody listens to what the session ran: it has hung up.
    for (const vm of copies) {
      const left = async () => await home.guest(vm, 'sh', '-c', 'pgrep -f "[r]ead -r -t" || echo none');
      await settled(async () => (await left()) === 'none');
      assert.equal(await left(), 'none');
    }
    await drop(home, copies);
  });

  test('a copy of a VM with a session in its terminal; the session goes on', async () => {
    const shell = home.start(['vm', 'exec', 'dev', '-t', '--', 'bash', '--norc'], { keepInput: true });
    shell.child.stdin.write('echo fi""rst\n');
    await settled(() => shell.stdout().includes('first'));
    const copies = await fork(home, 'dev', 1);
    shell.child.stdin.write('echo sec""ond; exit 5\n');
    const { status, stdout } = await shell.done;
    assert.match(stdout.toString(), /second/);
    assert.equal(status, 5);
    await drop(home, copies);
  });

  test('an ephemeral VM is a source like others, and its copies are not ephemeral', async () => {
    const run = home.start(
      ['vm', 'run', '--rm', '--name', 'brief', '--memory', '512M', '--', 'sh', '-c', 'echo up; read -r line'],
      { keepInput: true },
    );
    await settled(() => run.stdout() === 'up\n', 60_000);
    await snapshot(home, 'brief', 'of-brief');
    const [copy = ''] = await fork(home, 'brief', 1);
    run.child.stdin.end('\n');
    await run.done;
    await settled(async () => (await home.vms()).every(({ name }) => name !== 'brief'));
    assert.equal((await home.show(copy)).spec.ephemeral, false);
    assert.equal(await home.guest(copy, 'hostname'), copy);
    const again = (await home.ok(['vm', 'fork', '--snapshot', 'of-brief'])).trim();
    assert.equal((await home.show(again)).spec.ephemeral, false);
    await drop(home, [copy, again]);
  });
});

async function countsOn(running: Running): Promise<void> {
  const before = running.stdout().length;
  await settled(() => running.stdout().length > before);
  assert.ok(running.stdout().length > before, 'it stands still');
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
