import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { Fixture } from './fixture.ts';
import { PtySession } from './session-fixture.ts';

const COOKED = { canonical: true, echo: true };
const RAW = { canonical: false, echo: false };
const skip = spawnSync('python3', ['--version']).status === 0 ? false : 'python3 makes the terminal';

test('keys arrive one by one in raw mode, and the terminal is given back', { skip }, async () => {
  await using fixture = await Fixture.start();
  const session = await PtySession.start(fixture);
  let keys = '';
  session.program.onInput((chunk) => {
    keys += Buffer.from(chunk).toString('latin1');
  });
  await session.program.write(1, Buffer.from('ready'));
  await session.shows('ready');
  assert.deepEqual(await session.modes(), RAW);
  session.tell({ write: 'a\u0003\u0004\u001a\r' });
  while (keys.length < 5) await session.program.next();
  assert.equal(keys, 'a\u0003\u0004\u001a\r');
  session.program.exit(4);
  assert.deepEqual(await session.ended(), { status: 4, modes: COOKED });
  assert.deepEqual(session.program.events, []);
});

test('a window that changes its size tells the program', { skip }, async () => {
  await using fixture = await Fixture.start();
  const session = await PtySession.start(fixture);
  await session.program.write(1, Buffer.from('ready'));
  await session.shows('ready');
  session.tell({ resize: [50, 132] });
  assert.deepEqual(await session.program.event('resize'), { kind: 'resize', rows: 50, columns: 132 });
  session.program.exit(0);
  await session.ended();
});

for (const [name, number] of [
  ['SIGTERM', 15],
  ['SIGHUP', 1],
] as const) {
  test(`${name} ends the session and gives the terminal back`, { skip }, async () => {
    await using fixture = await Fixture.start();
    const session = await PtySession.start(fixture);
    await session.program.write(1, Buffer.from('ready'));
    await session.shows('ready');
    session.tell({ signal: number });
    await session.program.event('reset');
    session.program.close({ kind: 'signaled', signal: 1 });
    assert.deepEqual(await session.ended(), { status: 128 + number, modes: COOKED });
  });
}

test('a crash gives the terminal back', { skip }, async () => {
  await using fixture = await Fixture.start();
  const session = await PtySession.start(fixture, 'crash');
  await session.program.write(1, Buffer.from('ready'));
  await session.shows('ready');
  assert.deepEqual(await session.modes(), RAW);
  session.tell({ write: 'x' });
  const { status, modes } = await session.ended();
  assert.notEqual(status, 0);
  assert.deepEqual(modes, COOKED);
});

test('the terminal is given back at the end of the session, not of the process', { skip }, async () => {
  await using fixture = await Fixture.start();
  const session = await PtySession.start(fixture, 'linger');
  session.program.exit(0);
  await session.shows('session over');
  assert.deepEqual(await session.modes(), COOKED);
  session.tell({ signal: 9 });
  assert.equal((await session.ended()).status, 137);
});

test('a daemon that dies gives the terminal back', { skip }, async () => {
  await using fixture = await Fixture.start();
  const session = await PtySession.start(fixture);
  session.program.socket.destroy();
  assert.deepEqual(await session.ended(), { status: 125, modes: COOKED });
});

test('stopped and continued, the session is raw again and tells the size', { skip }, async () => {
  await using fixture = await Fixture.start();
  const session = await PtySession.start(fixture);
  await session.program.write(1, Buffer.from('ready'));
  await session.shows('ready');
  session.tell({ signal: 18 });
  assert.deepEqual(await session.program.event('resize'), { kind: 'resize', rows: 24, columns: 80 });
  assert.deepEqual(await session.modes(), RAW);
  session.program.exit(0);
  assert.deepEqual(await session.ended(), { status: 0, modes: COOKED });
});

test('without a tty for the program, the terminal keeps its own line editing', { skip }, async () => {
  await using fixture = await Fixture.start();
  const session = await PtySession.start(fixture, 'exec');
  let line = '';
  session.program.onInput((chunk) => {
    line += Buffer.from(chunk).toString('latin1');
  });
  await session.program.write(1, Buffer.from('ready'));
  await session.shows('ready');
  assert.deepEqual(await session.modes(), COOKED);
  session.tell({ write: 'hellp\u007fo\n' });
  while (!line.endsWith('\n')) await session.program.next();
  assert.equal(line, 'hello\n');
  session.tell({ write: '\u0003' });
  assert.equal((await session.program.event('signal')).number, 2);
  session.tell({ write: '\u0004' });
  await session.program.event('eof');
  session.program.exit(0);
  assert.deepEqual(await session.ended(), { status: 0, modes: COOKED });
});
