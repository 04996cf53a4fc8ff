import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  cpuCount,
  freeBytes,
  hostBootId,
  hostMemoryMib,
  isSameProcess,
  pidStartTicks,
  processIdentity,
  processUsage,
} from './proc.ts';

const NO_SUCH_PID = 2 ** 22 + 1;

test('a process is the same only with pid, start and boot', () => {
  const identity = processIdentity(process.pid);
  assert.ok(identity);
  assert.ok(isSameProcess(identity));
  assert.ok(!isSameProcess({ ...identity, pidStartTicks: identity.pidStartTicks + 1 }));
  assert.ok(!isSameProcess({ ...identity, hostBootId: 'another' }));
  assert.ok(!isSameProcess({ ...identity, pid: process.ppid }));
});

test('no process, or no pid at all: undefined', () => {
  for (const pid of [NO_SUCH_PID, 0, -1, 1.5, Number.NaN]) {
    assert.equal(pidStartTicks(pid), undefined);
    assert.equal(processUsage(pid), undefined);
    assert.equal(processIdentity(pid), undefined);
  }
});

test('a command with spaces and parentheses in its name is read right', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'proc-'));
  const program = join(dir, 'a) S 1 (b');
  copyFileSync('/bin/sleep', program);
  const child = spawn(program, ['60']);
  await once(child, 'spawn');
  const ticks = pidStartTicks(child.pid as number);
  const own = pidStartTicks(process.pid) as number;
  assert.ok(ticks !== undefined && ticks >= own && ticks < own + 360_000, String(ticks));
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(pidStartTicks(child.pid as number), undefined);
  rmSync(dir, { recursive: true });
});

const HALF_ENDED = `
import ctypes, threading, time
threading.Thread(target=lambda: time.sleep(60)).start()
print("ready", flush=True)
ctypes.CDLL(None).syscall(60, 0)
`;
const needsPython =
  process.arch === 'x64' && spawnSync('python3', ['--version']).status === 0
    ? false
    : 'python3 plays the part';

test('a process whose first thread has ended is there until its last one has', {
  skip: needsPython,
}, async (context) => {
  const child = spawn('python3', ['-c', HALF_ENDED], { stdio: ['ignore', 'pipe', 'ignore'] });
  context.after(() => child.kill('SIGKILL'));
  const pid = child.pid as number;
  await once(child.stdout, 'data');
  while (!/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) await sleep(5);
  assert.notEqual(pidStartTicks(pid), undefined);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(pidStartTicks(pid), undefined);
});

test('a zombie counts as gone', async () => {
  // The shell becomes a sleep that never waits for its child, which ends when its stdin does.
  const parent = spawn('sh', ['-c', 'cat <&3 >/dev/null & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore', 'pipe'],
  });
  const [line] = (await once(parent.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  const pid = Number(line.toString());
  assert.notEqual(pidStartTicks(pid), undefined);
  (parent.stdio[3] as NodeJS.WritableStream).end();
  while (!/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) await new Promise((r) => setTimeout(r, 5));
  assert.equal(pidStartTicks(pid), undefined);
  assert.equal(processUsage(pid), undefined);
  parent.kill('SIGKILL');
  await once(parent, 'exit');
});

test('usage agrees with what the process says of itself', () => {
  const usage = processUsage(process.pid);
  assert.ok(usage);
  const own = process.cpuUsage();
  assert.ok(Math.abs(usage.cpuMs - (own.user + own.system) / 1000) < 200);
  assert.ok(Math.abs(usage.rssBytes - process.memoryUsage.rss()) < 64 * 1024 * 1024);
});

test('facts of the host are plausible', () => {
  assert.match(hostBootId(), /^[0-9a-f-]{36}$/);
  assert.ok(Number.isInteger(hostMemoryMib()) && hostMemoryMib() >= 64);
  assert.ok(cpuCount() >= 1);
  assert.ok(freeBytes(tmpdir()) > 0);
});
