import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { test, type TestContext } from 'node:test';
import { daemonOf, DoctorHome, VERSION } from '../../../test/helpers/doctor-home.ts';
import type { DaemonStatus } from '../../api/results/daemon.ts';
import { acquireInstanceLock } from '../../host/instance-lock.ts';

function directories(): DoctorHome {
  return new DoctorHome().makeDirectories();
}

/** A socket that a killed process left: bound, and nobody listens any more. */
async function leaveSocket(path: string): Promise<void> {
  const script = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
  await once(spawn(process.execPath, ['-e', script, path]), 'exit');
  assert.ok(existsSync(path));
}

async function silentServer(path: string, context: TestContext): Promise<Server> {
  const server = createServer(() => undefined).listen(path);
  await once(server, 'listening');
  context.after(() => server.close());
  return server;
}

test('daemon.answers: none', async () => {
  using home = directories();
  assert.match(await home.says('daemon.answers'), /^info: not running/);
});

test('daemon.answers: one of our version', async (context) => {
  using home = directories();
  await daemonOf(home, context);
  assert.equal(await home.says('daemon.answers'), `ok: pid ${process.pid}, version ${VERSION}`);
});

test('daemon.answers: one of another version', async (context) => {
  using home = directories();
  await daemonOf(home, context, { version: 'older' });
  assert.match(await home.says('daemon.answers'), /^warning: this is banger .*older → .*banger daemon stop/);
});

test('daemon.answers: one that says nothing, and something that is no daemon', async (context) => {
  using home = directories();
  await silentServer(home.paths.socketPath, context);
  assert.match(await home.says('daemon.answers'), /^failure: the daemon has not answered within 2000 ms/);
  using other = directories();
  const server = createServer((socket) => socket.end('HTTP/1.1 400 no\r\n\r\n')).listen(
    other.paths.socketPath,
  );
  await once(server, 'listening');
  context.after(() => server.close());
  assert.match(await other.says('daemon.answers'), /^failure: /);
});

const root = process.geteuid?.() === 0;

test('daemon.answers: a socket of somebody else is not talked to', {
  skip: !root && 'only root can give files away',
}, async (context) => {
  using home = directories();
  await daemonOf(home, context);
  chownSync(home.paths.socketPath, 12_345, 12_345);
  assert.match(await home.says('daemon.answers'), /^failure: .*bangerd\.sock belongs to uid 12345/);
});

test('daemon.socket', async (context) => {
  using home = directories();
  assert.match(await home.says('daemon.socket'), /^ok/);
  await leaveSocket(home.paths.socketPath);
  await leaveSocket(home.paths.streamSocketPath);
  assert.match(
    await home.says('daemon.socket'),
    /^warning: .*bangerd\.sock was left.*\[fixable\]\nwarning: .*stream\.sock was left.*\[fixable\]$/,
  );
  assert.match(await home.says('daemon.answers'), /^info: not running/);
  rmSync(home.paths.socketPath);
  rmSync(home.paths.streamSocketPath);
  await daemonOf(home, context);
  assert.match(await home.says('daemon.socket'), /^ok/);
});

test('daemon.socket: something else in its place', async () => {
  using home = directories();
  writeFileSync(home.paths.socketPath, '');
  assert.match(await home.says('daemon.socket'), /^failure: .*is in the way: it is not a socket → mv [^[]*$/);
});

test('daemon.lock: free, and held by this very process', async () => {
  using home = directories();
  assert.equal(await home.says('daemon.lock'), 'ok: free');
  using _lock = await acquireInstanceLock(home.paths.lockFile, { pid: process.pid });
  assert.equal(await home.says('daemon.lock'), 'ok: free');
});

/** Holds the lock of a home in a process of its own until the test ends. */
async function holdElsewhere(home: DoctorHome, socketPath: string | undefined, context: TestContext) {
  const script = `import { acquireInstanceLock } from '${import.meta.dirname}/../../host/instance-lock.ts';
    const socketPath = process.argv[2];
    await acquireInstanceLock(process.argv[1], { pid: process.pid, ...(socketPath ? { socketPath } : {}) });
    console.log('held'); setInterval(() => {}, 1e6);`;
  const args = ['--input-type=module-typescript', '-e', script, home.paths.lockFile, socketPath ?? ''];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  context.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

test('daemon.lock: held by a daemon that answers elsewhere, and by one that does not answer', async (context) => {
  using home = directories();
  const child = await holdElsewhere(home, '/elsewhere/bangerd.sock', context);
  assert.match(
    await home.says('daemon.lock'),
    new RegExp(
      `^warning: a daemon \\(pid ${child.pid}\\) works on .* answers on /elsewhere/bangerd\\.sock, not on`,
    ),
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  // What it left written beside the lock means nothing without the process.
  assert.equal(await home.says('daemon.lock'), 'ok: free');
  const silent = await holdElsewhere(home, home.paths.socketPath, context);
  assert.match(
    await home.says('daemon.lock'),
    new RegExp(`^warning: pid ${silent.pid} holds .*nobody answers`),
  );
  // Written by another process: not believed.
  writeFileSync(`${home.paths.lockFile}.holder`, '{"pid":1,"socketPath":"/elsewhere"}');
  assert.match(
    await home.says('daemon.lock'),
    new RegExp(`^warning: pid ${silent.pid} holds .*nobody answers`),
  );
});

test('daemon.lock: the daemon that answers works on this state directory, or on another one', async (context) => {
  using home = directories();
  await daemonOf(home, context);
  assert.match(await home.says('daemon.lock'), /^ok: held by the daemon, pid \d+$/);
  using other = directories();
  const status = async () => ({ stateDir: '/another/state' }) as DaemonStatus;
  await daemonOf(other, context, { handlers: { 'daemon.status': status } });
  assert.match(
    await other.says('daemon.lock'),
    /^warning: the daemon that answers works on \/another\/state, not on/,
  );
});

test('daemon.log', async () => {
  using home = directories();
  const { logFile } = home.paths;
  assert.equal(await home.says('daemon.log'), 'ok: none yet');
  writeFileSync(logFile, 'x'.repeat(2048), { mode: 0o600 });
  assert.match(await home.says('daemon.log'), /^ok: .*bangerd\.log, 2 KiB$/);
  truncateSync(logFile, 300 * 1024 * 1024);
  assert.match(await home.says('daemon.log'), /^warning: .*300 MiB/);
  rmSync(logFile);
  mkdirSync(logFile);
  assert.match(await home.says('daemon.log'), /^failure: .*not a regular file/);
});

test('daemon.log: one that cannot be written', {
  skip: root && 'root writes any file',
}, async () => {
  using home = directories();
  writeFileSync(home.paths.logFile, '');
  chmodSync(home.paths.logFile, 0o400);
  assert.match(await home.says('daemon.log'), /^failure: .*permission denied/);
});

const line = (fields: object): string => `${JSON.stringify(fields)}\n`;
const SERVING = line({ level: 'info', time: 'T0', msg: 'serving' });
const FAILED = line({ level: 'error', time: 'T1', msg: 'could not', err: { message: 'for a reason' } });

test('daemon.last-failure', async () => {
  using home = directories();
  const says = async (log: string): Promise<string> => {
    writeFileSync(home.paths.logFile, log);
    return await home.says('daemon.last-failure');
  };
  assert.equal(await home.says('daemon.last-failure'), 'ok: none');
  assert.equal(await says(SERVING), 'ok: none');
  assert.equal(await says(FAILED), 'info: T1: could not: for a reason → banger daemon logs');
  assert.match(await says(`${SERVING}${FAILED}`), /^info: T1/);
  // A start that went well ends the matter.
  assert.equal(await says(`${FAILED}${SERVING}`), 'ok: none');
  assert.match(
    await says(`${SERVING}bangerd: config.toml:1:1: no\n  a hint\n`),
    /^info: bangerd: config\.toml/,
  );
  assert.equal(await says('null\n[]\n"x"\n7\n{"level":3}\n\0\0\n'), 'ok: none');
  assert.match(await says(`${'x'.repeat(200_000)}\n${FAILED}`), /^info: T1/);
});
