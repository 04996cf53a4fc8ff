/** Against a QEMU that is played: what real ones do rarely. Real ones are frozen in test/vmm. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { freeze } from './freeze.ts';
import { QmpClient } from './qmp.ts';
import { MAX_STATE_BYTES } from './state-receiver.ts';

const never = new AbortController().signal;
const STATE = Buffer.alloc(300_000, 'state');

interface Play {
  /** What the guest does at first. */
  readonly status?: string;
  /** After `stop`. */
  readonly stopped?: string;
  /** What QEMU sends as its state; nothing: it does not connect at all. */
  readonly send?: (socket: Socket) => void;
  /** What `query-migrate` answers. */
  readonly migration?: object;
}

/** A control socket, a directory with a memory file, and the commands that came. */
async function played(play: Play) {
  const dir = await mkdtemp(join(tmpdir(), 'freeze-'));
  const paths = {
    memoryPath: join(dir, 'memory'),
    socketPath: join(dir, 's.sock'),
    statePath: join(dir, 'state'),
  };
  await writeFile(paths.memoryPath, 'memory');
  const commands: string[] = [];
  let status = play.status ?? 'running';
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    socket.write('{"QMP": {}}\n');
    socket.on('data', (chunk) => {
      for (const line of chunk.toString().trim().split('\n')) {
        const { execute, id } = JSON.parse(line);
        commands.push(execute);
        let result: object = {};
        if (execute === 'query-status') result = { status };
        if (execute === 'stop') status = play.stopped ?? 'paused';
        if (execute === 'query-migrate') result = play.migration ?? { status: 'completed' };
        if (execute === 'migrate' && play.send !== undefined) {
          const sender = createConnection(paths.socketPath);
          sockets.add(sender.on('error', () => {}));
          sender.once('connect', () => play.send?.(sender));
        }
        socket.write(`${JSON.stringify({ return: result, id })}\n`);
      }
    });
  });
  server.listen(join(dir, 'qmp.sock'));
  await once(server, 'listening');
  const qmp = await QmpClient.connect(join(dir, 'qmp.sock'));
  let ended = 0;
  const end = async (): Promise<void> => {
    ended += 1;
    assert.equal((await readdir(dir)).includes('state'), false, 'no state before the process is gone');
  };
  return {
    ...paths,
    dir,
    commands,
    ended: () => ended,
    freeze: async (signal: AbortSignal = never, statePath: string = paths.statePath) =>
      await freeze({ qmp, ...paths, end }, { statePath, signal }),
    async [Symbol.asyncDispose]() {
      qmp.close();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await rm(dir, { recursive: true });
    },
  };
}

const sendAll = (socket: Socket): void => void socket.end(STATE);

test('the state appears whole, private, and after the end of the process', async () => {
  await using it = await played({ send: sendAll });
  const state = await it.freeze();
  assert.deepEqual(await readFile(it.statePath), STATE);
  assert.equal(state.sizeBytes, STATE.length);
  assert.equal((await stat(it.statePath)).mode & 0o777, 0o600);
  assert.equal(it.ended(), 1);
  assert.deepEqual(await readdir(it.dir), ['memory', 'qmp.sock', 'state']);
  assert.equal(it.commands.includes('cont'), false);
});

test('what fails leaves no file, ends no process, and lets a guest go on that ran', async () => {
  const tooMuch = (socket: Socket): void => void socket.write(Buffer.alloc(MAX_STATE_BYTES + 1));
  const failed = { status: 'failed', 'error-desc': 'no such channel' };
  const cases: readonly (readonly [Play, object])[] = [
    [
      { migration: failed },
      { code: 'vmm_failed', message: 'QEMU could not write its state: no such channel' },
    ],
    [{ migration: failed, send: sendAll }, { code: 'vmm_failed' }],
    [{ migration: { status: 'active' }, send: tooMuch }, { code: 'limit_exceeded' }],
    [{ stopped: 'io-error', send: sendAll }, { code: 'vmm_failed' }],
  ];
  for (const [play, error] of cases) {
    for (const status of ['running', 'paused']) {
      await using it = await played({ stopped: 'paused', ...play, status });
      await assert.rejects(it.freeze(), error, JSON.stringify(play));
      assert.deepEqual(await readdir(it.dir), ['memory', 'qmp.sock']);
      assert.equal(it.ended(), 0);
      assert.equal(it.commands.includes('cont'), status === 'running');
    }
  }
});

test('a guest that neither runs nor is paused is left alone', async () => {
  for (const status of ['io-error', 'inmigrate', 'guest-panicked', 'shutdown']) {
    await using it = await played({ status });
    await assert.rejects(it.freeze(), { code: 'invalid_state' }, status);
    assert.deepEqual(it.commands, ['qmp_capabilities', 'query-status']);
    assert.deepEqual(await readdir(it.dir), ['memory', 'qmp.sock']);
  }
});

test('cancelling ends the wait for a QEMU that does not connect, or does not end', async () => {
  const half = (socket: Socket): void => void socket.write(STATE);
  for (const send of [undefined, half]) {
    await using it = await played({
      migration: { status: 'active' },
      ...(send === undefined ? {} : { send }),
    });
    await assert.rejects(it.freeze(AbortSignal.timeout(50)), { code: 'cancelled' });
    assert.deepEqual(await readdir(it.dir), ['memory', 'qmp.sock']);
    assert.equal(it.commands.at(-1), 'cont');
  }
});

test('a place that cannot be written is found out before the guest is touched', async () => {
  await using it = await played({ send: sendAll });
  await assert.rejects(it.freeze(never, join(it.dir, 'no', 'directory')), { code: 'io_error' });
  assert.deepEqual(it.commands, ['qmp_capabilities']);
});

test('without its memory there is no state', async () => {
  await using it = await played({ send: sendAll });
  await rm(it.memoryPath);
  await assert.rejects(it.freeze(), { code: 'io_error' });
  assert.deepEqual(await readdir(it.dir), ['qmp.sock']);
});
