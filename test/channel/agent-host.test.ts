/** The host side of the guest channel against the real agent, in a process instead of a machine. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { exitStatusOf } from '../../src/core/channel/close.ts';
import { encodeSize, encodeU32, FRAME_TYPES } from '../../src/core/channel/frame.ts';
import type { AgentClient } from '../../src/guest/agent-client.ts';
import type { ExecRequest } from '../../src/guest/payloads.ts';
import { relay } from '../../src/guest/relay.ts';
import { run } from '../../src/guest/run.ts';
import { AgentHost } from '../helpers/agent-host.ts';
import { ModelClient } from '../helpers/model-client.ts';

const MIB = 1024 * 1024;
const MAX_OUTPUT = { maxOutputBytes: 4 * MIB };
const SIGINT = 2;
const SIGWINCH_SCRIPT = "trap 'stty size; exit 0' WINCH; stty size; echo ready; while :; do sleep 0.02; done";

let host: AgentHost;
let agent: AgentClient;

before(async () => {
  host = await AgentHost.start();
  agent = await host.connect();
});

after(async () => {
  agent?.close();
  await host?.[Symbol.asyncDispose]();
});

function sh(script: string, request: Partial<ExecRequest> = {}) {
  return run(agent, { argv: ['sh', '-c', script], ...request }, MAX_OUTPUT);
}

/** A client on a real unix socket, relayed to a command. */
async function clientOf(client: AgentClient, request: ExecRequest, keep = true) {
  const dir = await mkdtemp(join(tmpdir(), 'relay-'));
  const path = join(dir, 's');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const socket = connect(path);
  const [daemonSide] = await accepted;
  server.close();
  await rm(dir, { recursive: true });
  const relayed = relay(client.exec(request), daemonSide);
  return { model: new ModelClient(socket, keep), relayed, daemonSide };
}

test('the hello, health and ports', async () => {
  assert.equal(agent.hello.mounted, true);
  assert.equal(agent.hello.error, null);
  const health = await agent.health();
  assert.equal(health.bootId, agent.hello.bootId);
  assert(health.memoryTotalKib > 0 && health.diskTotalBytes > 0);
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert(address !== null && typeof address === 'object');
  const ports = await agent.ports();
  server.close();
  const own = ports.find((port) => port.port === address.port && port.protocol === 'tcp');
  assert.equal(own?.address, '127.0.0.1');
  assert.equal(own?.pid, process.pid);
});

test('exit statuses are verbatim', async () => {
  for (const status of [0, 1, 7, 255]) assert.equal((await sh(`exit ${status}`)).status, status);
});

test('a program ended by a signal', async () => {
  for (const [name, number] of [
    ['TERM', 15],
    ['KILL', 9],
    ['SEGV', 11],
  ] as const) {
    assert.equal((await sh(`kill -${name} $$`)).status, 128 + number);
  }
});

test('not found is 127, not executable is 126, a bad directory or user is 125', async () => {
  for (const [request, status] of [
    [{ argv: ['no-such-program'] }, 127],
    [{ argv: ['/no/such/program'] }, 127],
    [{ argv: ['/etc/passwd'] }, 126],
    [{ argv: ['/tmp'] }, 126],
    [{ argv: ['true'], cwd: '/no/such/directory' }, 125],
    [{ argv: ['true'], user: 'no-such-user' }, 125],
  ] as const) {
    const stream = agent.exec(request);
    assert.equal(exitStatusOf(await stream.result), status, JSON.stringify(request));
    await assert.rejects(run(agent, request, MAX_OUTPUT), { code: 'guest_failed' });
  }
});

test('stdin, stdout and stderr are separate and pass every byte', async () => {
  const bytes = Buffer.concat([
    Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
    randomBytes(MIB),
  ]);
  const result = await run(
    agent,
    { argv: ['sh', '-c', 'cat; printf "err\\0" >&2'] },
    { ...MAX_OUTPUT, input: bytes },
  );
  assert(result.stdout.equals(bytes));
  assert.equal(result.stderr.toString(), 'err\0');
  assert.equal(result.status, 0);
});

test('environment, directory and arguments arrive as they are', async () => {
  const { stdout } = await sh('pwd; printf "%s|" "$A" "$0" "$1"', {
    argv: ['sh', '-c', 'pwd; printf "%s|" "$A" "$0" "$1"', 'é\n', ''],
    env: { A: 'x y=\'"' },
    cwd: '/usr',
  });
  assert.equal(stdout.toString(), `/usr\nx y='"|é\n||`);
});

test('no stdin is /dev/null', async () => {
  assert.equal((await sh('readlink /proc/self/fd/0')).stdout.toString(), '/dev/null\n');
});

test('a background process that keeps the output open does not hold the result back', async () => {
  const { stdout, status } = await sh('sleep 5 & echo done');
  assert.deepEqual([stdout.toString(), status], ['done\n', 0]);
});

test('a terminal: its size, a new size, Ctrl-C', async () => {
  const request = { argv: ['sh', '-c', SIGWINCH_SCRIPT], tty: true, stdin: true, rows: 24, columns: 80 };
  const resized = await clientOf(agent, request);
  const text = (): string => Buffer.concat(resized.model.output).toString();
  while (!text().includes('ready')) await once(resized.model.duplex, 'data');
  resized.model.send(FRAME_TYPES.resize, 0, encodeSize(50, 132));
  assert.deepEqual(await resized.relayed, { kind: 'done', status: 0 });
  assert.equal(text(), '24 80\r\nready\r\n50 132\r\n');

  const interrupted = await clientOf(agent, { argv: ['cat'], tty: true, stdin: true });
  await interrupted.model.sendInput(Buffer.from('hi\n'));
  while (!Buffer.concat(interrupted.model.output).toString().includes('hi\r\nhi\r\n')) {
    await once(interrupted.model.duplex, 'data');
  }
  await interrupted.model.sendInput(Buffer.from('\x03'));
  assert.deepEqual(await interrupted.relayed, { kind: 'signaled', signal: SIGINT });
});

test('a signal goes to the whole process group', async () => {
  // What is printed comes from the shell's child: both are there when the signal is sent, and neither ignores it.
  const { model, relayed } = await clientOf(agent, {
    argv: ['sh', '-c', 'tail -f -n 1 /etc/passwd; echo no'],
  });
  while (model.output.length === 0) await once(model.duplex, 'data');
  model.send(FRAME_TYPES.signal, 0, encodeU32(SIGINT));
  assert.deepEqual(await relayed, { kind: 'signaled', signal: SIGINT });
});

test('a client that hangs up ends its program', async () => {
  const { model, relayed } = await clientOf(agent, { argv: ['sh', '-c', 'echo $$; exec sleep 60'] });
  while (model.output.length === 0) await once(model.duplex, 'data');
  const pid = Number(Buffer.concat(model.output).toString());
  process.kill(pid, 0);
  model.duplex.destroy();
  assert.equal((await relayed).kind, 'failed');
  while (await isAlive(pid)) await delay(10);
  assert.equal(agent.closeReason, undefined);
});

async function isAlive(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('a session that ends ends its programs, and the agent takes the next one', async () => {
  await using other = await AgentHost.start();
  const first = await other.connect();
  const stream = first.exec({ argv: ['sh', '-c', 'echo $$; exec sleep 60'] });
  const pid = await new Promise<number>((resolve) => {
    stream.attach({
      data: (frame) => resolve(Number(Buffer.from(frame.payload).toString())),
      eof() {},
      credit() {},
      closed() {},
    });
  });
  first.close();
  assert.equal((await stream.result).kind, 'failed');
  while (await isAlive(pid)) await delay(10);
  const second = await other.connect();
  assert.equal((await run(second, { argv: ['true'] }, MAX_OUTPUT)).status, 0);
  second.close();
});

test('an agent that dies is noticed', async () => {
  await using other = await AgentHost.start();
  const client = await other.connect();
  const running = run(client, { argv: ['sleep', '60'] }, MAX_OUTPUT);
  other.process.kill('SIGKILL');
  await assert.rejects(running, { code: 'channel_broken' });
  await client.closed;
});

test('many streams at once, each with its own bytes', async () => {
  const runs = Array.from({ length: 100 }, async (_, index) => {
    const input = Buffer.alloc(100_000 + index, `${index};`);
    const result = await run(
      agent,
      { argv: ['sh', '-c', `cat; exit ${index}`] },
      { maxOutputBytes: MIB, input },
    );
    assert(result.stdout.equals(input));
    assert.equal(result.status, index);
  });
  await Promise.all(runs);
  assert.equal(agent.openStreams, 0);
});

test('a reader that does not read stops its program and no other', async () => {
  const { model, relayed } = await clientOf(
    agent,
    { argv: ['head', '-c', String(8 * MIB), '/dev/zero'] },
    false,
  );
  model.duplex.pause();
  assert.equal((await sh('head -c 3000000 /dev/zero')).stdout.length, 3_000_000);
  assert.equal(model.received[0], 0);
  model.duplex.resume();
  assert.deepEqual(await relayed, { kind: 'done', status: 0 });
  assert.equal(model.received[0], 8 * MIB);
});

test('throughput through exec, relay and a socket (reported, not judged)', async (context) => {
  const total = 128 * MIB;
  const out = await clientOf(agent, { argv: ['head', '-c', String(total), '/dev/zero'] }, false);
  let started = performance.now();
  await out.relayed;
  const outMs = performance.now() - started;
  assert.equal(out.model.received[0], total);

  const into = await clientOf(agent, { argv: ['sh', '-c', 'cat >/dev/null'], stdin: true }, false);
  const chunk = Buffer.alloc(MIB);
  let peakBytes = 0;
  started = performance.now();
  for (let sent = 0; sent < total; sent += chunk.length) {
    await into.model.sendInput(chunk);
    peakBytes = Math.max(peakBytes, agent.bufferedBytes);
  }
  into.model.sendEof();
  assert.deepEqual(await into.relayed, { kind: 'done', status: 0 });
  const inMs = performance.now() - started;
  assert(peakBytes < 2 * MIB, `peak ${peakBytes}`);
  const rate = (ms: number): string => `${Math.round(total / MIB / (ms / 1000))} MiB/s`;
  context.diagnostic(`guest → client ${rate(outMs)}, client → guest ${rate(inMs)}`);
});
