import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ERRNO } from '../../src/core/channel/close.ts';
import { INITIAL_WINDOW_BYTES } from '../../src/core/channel/frame.ts';
import { Fixture } from './fixture.ts';
import { startSession } from './session-fixture.ts';

const failed = (errno: number, text: string) => ({ kind: 'failed', errno, text }) as const;

for (const status of [0, 7, 255]) {
  test(`the program's exit status ${status} is the session's`, async () => {
    await using fixture = await Fixture.start();
    const session = await startSession(fixture);
    session.program.exit(status);
    assert.equal(await session.ended, status);
    assert.equal(session.stderr(), '');
  });
}

const ENDS = [
  [{ kind: 'signaled', signal: 9 }, 137, /^$/],
  [{ kind: 'signaled', signal: 15 }, 143, /^$/],
  [failed(ERRNO.ENOENT, 'spawn: nope'), 127, /^banger: .*run the command.*nope/],
  [failed(ERRNO.EACCES, 'spawn: /etc/passwd'), 126, /^banger: .*run the command/],
  [failed(ERRNO.ENOEXEC, 'spawn: x'), 126, /^banger: /],
  [failed(ERRNO.ENOENT, 'chdir: /nope'), 125, /^banger: .*working directory.*\/nope/],
  [failed(ERRNO.ECONNRESET, 'channel: gone'), 125, /^banger: .*lost/],
] as const;
for (const [result, status, message] of ENDS) {
  test(`${JSON.stringify(result)} is status ${status}`, async () => {
    await using fixture = await Fixture.start();
    const session = await startSession(fixture);
    session.program.close(result);
    assert.equal(await session.ended, status);
    assert.match(session.stderr(), message);
  });
}

test('a daemon that dies is status 125 with a message', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture);
  session.program.socket.destroy();
  assert.equal(await session.ended, 125);
  assert.match(session.stderr(), /^banger: the daemon hung up/);
});

test('stdout and stderr stay apart and whole, with the result right behind them', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture);
  const out = randomBytes(2_000_000);
  const err = randomBytes(1_000_000);
  await Promise.all([session.program.write(1, out), session.program.write(2, err)]);
  session.program.exit(0);
  assert.equal(await session.ended, 0);
  assert.equal(session.stdout(), out.toString('latin1'));
  assert.equal(session.stderr(), err.toString('latin1'));
});

test('the process ends promptly though its stdin stays open', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture);
  session.child.stdin?.write('some');
  while (session.program.receivedBytes < 4) await session.program.next();
  session.program.exit(3);
  assert.equal(await session.ended, 3);
  assert.equal(session.child.stdin?.writableEnded, false);
});

test('a pipe on stdin arrives whole, then its end', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture);
  const hash = createHash('sha256');
  session.program.onInput((chunk) => {
    hash.update(chunk);
    session.program.grant(chunk.length);
  });
  const bytes = randomBytes(4_000_000);
  session.child.stdin?.end(bytes);
  await session.program.event('eof');
  assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
  // The program goes on after the end of its stdin.
  await session.program.write(1, Buffer.from('still here'));
  session.program.exit(0);
  assert.equal(await session.ended, 0);
  assert.equal(session.stdout(), 'still here');
});

test('a program that does not read its stdin keeps no more of it than a window', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture);
  session.child.stdin?.write(Buffer.alloc(8 * INITIAL_WINDOW_BYTES));
  while (session.program.receivedBytes < INITIAL_WINDOW_BYTES) await session.program.next();
  session.program.exit(0);
  assert.equal(await session.ended, 0);
  assert.equal(session.program.receivedBytes, INITIAL_WINDOW_BYTES);
  assert.equal(session.program.failure, undefined);
});

test('stdin and stdout can be files', async () => {
  await using fixture = await Fixture.start();
  const [inPath, outPath] = [join(fixture.dir, 'in'), join(fixture.dir, 'out')];
  const bytes = randomBytes(3_000_000);
  writeFileSync(inPath, bytes);
  const stdio = [openSync(inPath, 'r'), openSync(outPath, 'w')] as const;
  const session = await startSession(fixture, { stdio: [...stdio, 'pipe'] });
  for (const descriptor of stdio) closeSync(descriptor);
  let echo = Promise.resolve();
  session.program.onInput((chunk) => {
    const copy = Buffer.from(chunk);
    echo = echo.then(() => session.program.write(1, copy)).then(() => session.program.grant(copy.length));
  });
  await session.program.event('eof');
  await echo;
  session.program.exit(0);
  assert.equal(await session.ended, 0);
  assert.ok(readFileSync(outPath).equals(bytes));
});

for (const [what, stdin] of [
  ['/dev/null', 'ignore'],
  ['a directory', 'directory'],
] as const) {
  test(`stdin that is ${what} is at its end`, async () => {
    await using fixture = await Fixture.start();
    const descriptor = stdin === 'directory' ? openSync(fixture.dir, 'r') : undefined;
    const session = await startSession(fixture, { stdio: [descriptor ?? 'ignore', 'pipe', 'pipe'] });
    await session.program.event('eof');
    session.program.exit(0);
    assert.equal(await session.ended, 0);
    assert.equal(session.stderr(), '');
  });
}

test('without stdin its end is sent and nothing is read', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture, { mode: 'no-stdin' });
  session.child.stdin?.write('not for you');
  await session.program.event('eof');
  session.program.exit(0);
  assert.equal(await session.ended, 0);
  assert.equal(session.program.receivedBytes, 0);
});

for (const [name, number] of [
  ['SIGHUP', 1],
  ['SIGINT', 2],
  ['SIGQUIT', 3],
  ['SIGUSR1', 10],
  ['SIGUSR2', 12],
  ['SIGTERM', 15],
] as const) {
  test(`${name} is forwarded, and the program decides`, async () => {
    await using fixture = await Fixture.start();
    const session = await startSession(fixture);
    session.child.kill(name);
    assert.equal((await session.program.event('signal')).number, number);
    session.program.exit(5);
    assert.equal(await session.ended, 5);
  });
}

test('a second SIGINT gives a program up that ignores the first', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture);
  session.child.kill('SIGINT');
  await session.program.event('signal');
  session.child.kill('SIGINT');
  await session.program.event('reset');
  session.program.close({ kind: 'signaled', signal: 1 });
  assert.equal(await session.ended, 130);
});

test('a program that survives being given up does not hold the session', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture);
  session.child.kill('SIGTERM');
  await session.program.event('signal');
  session.child.kill('SIGTERM');
  await session.program.event('reset');
  assert.equal(await session.ended, 143);
  await session.program.event('hangup');
});

test('a reader of stdout that goes away ends the program; the status is that of SIGPIPE', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture);
  await session.program.write(1, Buffer.from('first\n'));
  session.child.stdout?.destroy();
  const writing = session.program.write(1, Buffer.alloc(4 * INITIAL_WINDOW_BYTES));
  writing.catch(() => undefined);
  await session.program.event('reset');
  session.program.close({ kind: 'signaled', signal: 1 });
  assert.equal(await session.ended, 141);
  assert.equal(session.stderr(), '');
});

test('a reader of stderr that goes away leaves the program alone', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture);
  session.child.stderr?.destroy();
  await session.program.write(2, Buffer.alloc(3 * INITIAL_WINDOW_BYTES));
  await session.program.write(1, Buffer.from('on it goes'));
  session.program.exit(0);
  assert.equal(await session.ended, 0);
  assert.equal(session.stdout(), 'on it goes');
});

test('a full disk behind stdout is said, and is status 125', async () => {
  await using fixture = await Fixture.start();
  const full = openSync('/dev/full', 'w');
  const session = await startSession(fixture, { stdio: ['ignore', full, 'pipe'] });
  closeSync(full);
  session.program.raw(Buffer.alloc(0));
  await session.program.write(1, Buffer.from('x'));
  await session.program.event('reset');
  session.program.close({ kind: 'signaled', signal: 1 });
  assert.equal(await session.ended, 125);
  assert.match(session.stderr(), /^banger: cannot write to stdout: no space left on device\n/);
});

test('a program that writes more than it may is given up', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture, { mode: 'limited' });
  await session.program.write(1, Buffer.alloc(1000));
  await session.program.write(1, Buffer.alloc(1));
  await session.program.event('reset');
  session.program.close({ kind: 'signaled', signal: 1 });
  assert.equal(await session.ended, 125);
  assert.match(session.stderr(), /^banger: the VM sent more than 1000 bytes/);
  assert.equal(session.stdout().length, 1000);
});

test('a stalled reader of stdout stalls the program at its window, and SIGINT still gets through', async () => {
  await using fixture = await Fixture.start();
  const session = await startSession(fixture, { mode: 'exit' });
  session.child.stdout?.pause();
  const writing = session.program.write(1, Buffer.alloc(16 * INITIAL_WINDOW_BYTES));
  writing.catch(() => undefined);
  while (session.program.available(1) > 0) await session.program.next();
  session.child.kill('SIGINT');
  assert.equal((await session.program.event('signal')).number, 2);
  session.program.close({ kind: 'signaled', signal: 2 });
  // What it wrote is stuck: only giving up helps.
  while (!session.program.socket.destroyed) await session.program.next();
  session.child.kill('SIGINT');
  assert.equal(await session.ended, 130);
});

test('an output stream is copied to its end; a reader that goes away ends it quietly', async () => {
  await using fixture = await Fixture.start();
  const whole = await startSession(fixture, { mode: 'output' });
  await whole.program.event('eof');
  await whole.program.write(1, Buffer.from('log line\n'));
  whole.program.exit(0);
  assert.equal(await whole.ended, 0);
  assert.equal(whole.stdout(), 'log line\n');
  const cut = await startSession(fixture, { mode: 'output' });
  cut.child.stdout?.destroy();
  cut.program.write(1, Buffer.alloc(1000)).catch(() => undefined);
  await cut.program.event('hangup');
  assert.equal(await cut.ended, 0);
  assert.equal(cut.stderr(), '');
});
