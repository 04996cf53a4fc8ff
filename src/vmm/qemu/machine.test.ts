import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Log, NO_LOG } from '../../host/log.ts';
import type { MachineHandles } from '../driver.ts';
import { VmmProcess } from '../process.ts';
import { QemuMachine } from './machine.ts';
import { QEMU } from './program.ts';

/** So that only the control socket can tell. */
const NO_POLLING_MS = 1_000_000;

const never = new AbortController().signal;

/** A process that does nothing, in the place of QEMU, and a directory for its sockets. */
async function sleeper(argv: readonly [string, ...string[]] = ['sleep', '300']) {
  const dir = await mkdtemp(join(tmpdir(), 'machine-'));
  const vmm = await VmmProcess.spawn(argv, { program: QEMU, logPath: join(dir, 'vmm.log') });
  const handles: MachineHandles = {
    driver: 'qemu',
    ...vmm.identity,
    controlSocketPath: join(dir, 'qmp.sock'),
    channelSocketPath: join(dir, 'agent.sock'),
    argv,
  };
  return {
    vmm,
    handles,
    async [Symbol.asyncDispose]() {
      await vmm.kill();
      vmm.release();
      await rm(dir, { recursive: true });
    },
  };
}

async function listen(
  path: string,
  onConnection: (socket: Socket) => void,
): Promise<Server & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    onConnection(socket);
  });
  server.listen(path);
  await once(server, 'listening');
  return Object.assign(server, {
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

/** A control socket of a machine in the given run state: answers, and tells which commands came. */
function control(
  status: string,
  onCommand: (name: string, socket: Socket) => void,
): (socket: Socket) => void {
  return (socket) => {
    socket.write('{"QMP": {}}\n');
    socket.on('data', (chunk) => {
      for (const line of chunk.toString().trim().split('\n')) {
        const { execute, id } = JSON.parse(line);
        const result = execute === 'query-status' ? { status } : {};
        socket.write(`${JSON.stringify({ return: result, id })}\n`);
        onCommand(execute, socket);
      }
    });
  };
}

test('the channel is connected as soon as the socket accepts', async () => {
  await using it = await sleeper();
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: true });
  const connecting = machine.connectChannel(never);
  await using _server = await listen(it.handles.channelSocketPath, (socket) => void socket.end('hi'));
  const channel = await connecting;
  assert.equal(String((await once(channel, 'data'))[0]), 'hi');
  channel.destroy();
  machine.release();
});

test('a new machine’s channel waits until QEMU is through with its arguments', async () => {
  await using it = await sleeper();
  let connections = 0;
  await using _early = await listen(it.handles.channelSocketPath, (socket) => {
    connections += 1;
    socket.write('hi');
  });
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: false });
  const connecting = machine.connectChannel(never);
  await assert.rejects(machine.connectChannel(AbortSignal.timeout(100)), { code: 'cancelled' });
  assert.equal(connections, 0);
  await using _control = await listen(
    it.handles.controlSocketPath,
    control('running', () => {}),
  );
  const channel = await connecting;
  assert.equal(String((await once(channel, 'data'))[0]), 'hi');
  channel.destroy();
  machine.release();
});

test('a new machine that ends meanwhile is quoted, whatever its sockets did', async () => {
  await using it = await sleeper(['sh', '-c', 'sleep 0.2; echo no such kernel >&2; exit 1']);
  await using _early = await listen(it.handles.channelSocketPath, () => {});
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: false });
  await assert.rejects(machine.connectChannel(never), {
    message: 'QEMU ended (exit status 1): no such kernel',
  });
});

test('waiting for the channel ends with the signal, and the process stays', async () => {
  await using it = await sleeper();
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: true });
  const abort = new AbortController();
  const connecting = machine.connectChannel(abort.signal);
  setImmediate(() => abort.abort());
  await assert.rejects(connecting, { code: 'cancelled' });
  await assert.rejects(machine.connectChannel(AbortSignal.abort()), { code: 'cancelled' });
  assert.equal(it.vmm.exit, undefined);
  machine.release();
  await assert.rejects(machine.connectChannel(never), { code: 'cancelled' });
});

test('a process that ends first gives its last words at once, and again', async () => {
  await using it = await sleeper(['sh', '-c', 'sleep 0.2; echo no space left >&2; exit 3']);
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: true });
  const message = 'QEMU ended (exit status 3): no space left';
  await assert.rejects(machine.connectChannel(never), { code: 'vmm_failed', message });
  await assert.rejects(machine.connectChannel(never), { code: 'vmm_failed', message });
  assert.deepEqual(await machine.exited, { exitCode: 3, signal: null });
});

test('a path that is no socket is an error, not a wait', async () => {
  await using it = await sleeper();
  const handles = { ...it.handles, channelSocketPath: '/dev/null/x' };
  const machine = new QemuMachine(handles, it.vmm, { log: NO_LOG, isUp: true });
  await assert.rejects(machine.connectChannel(never), { code: 'vmm_failed' });
  machine.release();
});

test('the end of the control connection reveals the end of an adopted process', async () => {
  await using it = await sleeper();
  const connected = Promise.withResolvers<Socket>();
  await using _server = await listen(
    it.handles.controlSocketPath,
    control('running', (name, socket) => name === 'query-status' && connected.resolve(socket)),
  );
  const adopted = VmmProcess.adopt(it.vmm.identity, {
    ...{ title: 'QEMU', logPaths: [], pollMs: NO_POLLING_MS },
  });
  assert(adopted !== undefined);
  const machine = new QemuMachine(it.handles, adopted, { log: NO_LOG, isUp: true });
  const socket = await connected.promise;
  // Ended behind the machine's back; its sockets end with it.
  process.kill(it.handles.pid, 'SIGKILL');
  await it.vmm.exited;
  socket.destroy();
  assert.deepEqual(await machine.exited, { exitCode: null, signal: null });
});

test('a control connection that ends while the process lives is made again', async () => {
  await using it = await sleeper();
  let connections = 0;
  const again = Promise.withResolvers<void>();
  await using _server = await listen(it.handles.controlSocketPath, (socket) => {
    connections += 1;
    if (connections === 1) return void socket.end('not QMP\n');
    control('running', () => again.resolve())(socket);
  });
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: true });
  await again.promise;
  machine.release();
});

test('release closes the control connection and leaves the process', async () => {
  await using it = await sleeper();
  const connected = Promise.withResolvers<Socket>();
  await using _server = await listen(
    it.handles.controlSocketPath,
    control('running', (name, socket) => name === 'query-status' && connected.resolve(socket)),
  );
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: true });
  const socket = await connected.promise;
  machine.release();
  await new Promise((resolve) => socket.once('close', resolve));
  assert.notEqual(VmmProcess.adopt(it.vmm.identity, { title: '', logPaths: [] }), undefined);
  await machine.kill();
  assert.equal(VmmProcess.adopt(it.vmm.identity, { title: '', logPaths: [] }), undefined);
});

test('a guest halted by a full host disk is reported and resumed, also one found halted', async () => {
  for (const halted of ['before', 'after'] as const) {
    await using it = await sleeper();
    const resumed = Promise.withResolvers<void>();
    const reported: object[] = [];
    const log: Log = { ...NO_LOG, error: (fields) => void reported.push(fields), child: () => log };
    let queries = 0;
    const onCommand = (name: string, socket: Socket): void => {
      if (name === 'cont') resumed.resolve();
      if (name !== 'query-status' || halted === 'before' || ++queries > 1) return;
      const data = { device: 'disk0', action: 'stop', nospace: true };
      socket.write(`${JSON.stringify({ event: 'BLOCK_IO_ERROR', data })}\n`);
    };
    await using _server = await listen(it.handles.controlSocketPath, control('io-error', onCommand));
    const machine = new QemuMachine(it.handles, it.vmm, { log, isUp: true, resumeMs: 1 });
    await resumed.promise;
    assert.equal(reported.length, halted === 'before' ? 0 : 1);
    machine.release();
  }
});

test('a guest that is paused for another reason is not resumed', async () => {
  await using it = await sleeper();
  const commands: string[] = [];
  const asked = Promise.withResolvers<void>();
  await using _server = await listen(
    it.handles.controlSocketPath,
    control('paused', (name, socket) => {
      commands.push(name);
      if (commands.length === 2) socket.write('{"event": "BLOCK_IO_ERROR", "data": {"action": "stop"}}\n');
      if (commands.length === 3) asked.resolve();
    }),
  );
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: true, resumeMs: 1 });
  await asked.promise;
  machine.release();
  assert.deepEqual(commands, ['qmp_capabilities', 'query-status', 'query-status']);
});

/** A machine whose control socket remembers the commands it got, and answers `query-status` with what `status` is then. */
async function controlled(it: Awaited<ReturnType<typeof sleeper>>, status: { now: string }) {
  const commands: string[] = [];
  const sockets: Socket[] = [];
  const server = await listen(it.handles.controlSocketPath, (socket) => {
    sockets.push(socket);
    socket.write('{"QMP": {}}\n');
    socket.on('data', (chunk) => {
      for (const line of chunk.toString().trim().split('\n')) {
        const { execute, id } = JSON.parse(line);
        commands.push(execute);
        const result = execute === 'query-status' ? { status: status.now } : {};
        socket.write(`${JSON.stringify({ return: result, id })}\n`);
      }
    });
  });
  return { commands, sockets, server };
}

test('a machine is paused and resumed over the connection that is kept, and says what it is', async () => {
  await using it = await sleeper();
  const status = { now: 'running' };
  const { commands, sockets, server } = await controlled(it, status);
  await using _server = server;
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: true });
  assert.equal(await machine.runState(), 'running');
  commands.length = 0;
  await machine.pause();
  status.now = 'paused';
  await machine.pause();
  assert.equal(await machine.runState(), 'paused');
  // As saving leaves it.
  status.now = 'postmigrate';
  assert.equal(await machine.runState(), 'paused');
  await machine.resume();
  assert.deepEqual(commands, ['stop', 'stop', 'query-status', 'query-status', 'cont']);
  assert.equal(sockets.length, 1);
  machine.release();
});

test('a pause waits for the control socket, and is made on a new connection when that broke', async () => {
  await using it = await sleeper();
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: true });
  const early = machine.pause();
  const { commands, sockets, server } = await controlled(it, { now: 'running' });
  await using _server = server;
  await early;
  sockets[0]?.destroy();
  while ((await machine.resume().catch(() => 'not yet')) === 'not yet') continue;
  assert.equal(sockets.length, 2);
  assert.deepEqual([commands.includes('stop'), commands.at(-1)], [true, 'cont']);
  machine.release();
});

test('a machine that has ended cannot be paused, and is quoted', async () => {
  await using it = await sleeper(['sh', '-c', 'sleep 0.2; echo no space left >&2; exit 3']);
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: true });
  const message = 'QEMU ended (exit status 3): no space left';
  await assert.rejects(machine.pause(), { code: 'vmm_failed', message });
  await assert.rejects(machine.runState(), { code: 'vmm_failed', message });
});

test('a guest that a full disk halted and that is paused besides waits to be resumed', async () => {
  await using it = await sleeper();
  const { commands, sockets, server } = await controlled(it, { now: 'io-error' });
  await using _server = server;
  const machine = new QemuMachine(it.handles, it.vmm, { log: NO_LOG, isUp: true, resumeMs: 1 });
  await machine.pause();
  assert.equal(await machine.runState(), 'paused');
  const looks = () => commands.filter((name) => name === 'query-status').length;
  const before = looks();
  sockets[0]?.write('{"event": "BLOCK_IO_ERROR", "data": {"action": "stop"}}\n');
  while (looks() === before) await new Promise((resolve) => setImmediate(resolve));
  // The second answer comes after what the look led to.
  await machine.runState();
  assert.equal(await machine.runState(), 'paused');
  assert.ok(!commands.includes('cont'), commands.join(' '));
  await machine.resume();
  assert.equal(await machine.runState(), 'running', 'it goes on by itself');
  machine.release();
});
