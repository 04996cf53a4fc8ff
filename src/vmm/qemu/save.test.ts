/** Against a QEMU that is played: what real ones do rarely. Real ones are saved in test/vmm. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { migrationStream } from '../../../test/helpers/migration-stream.ts';
import { QmpClient } from './qmp.ts';
import { PAGE_BYTES } from './stream-bytes.ts';
import { save } from './save.ts';
import { MAX_STATE_BYTES } from '../frozen-files.ts';

const never = new AbortController().signal;
const PAGES = 300;
const BLOCKS = [{ name: 'memory', sizeBytes: PAGES * PAGE_BYTES }];
const RECORDS = [{ block: 'memory', at: 299, fill: 7, kind: 'page' }] as const;
const STREAM = migrationStream(BLOCKS, [RECORDS]);
const STATE = migrationStream(BLOCKS, [[]], [RECORDS]);

interface Play {
  /** What the guest does at first. */
  readonly status?: string;
  /** What QEMU sends; nothing: it does not connect at all. */
  readonly send?: (socket: Socket) => void;
  /** What `query-migrate` answers, until it is cancelled. */
  readonly migration?: object;
}

/** A control socket, a directory, and the commands that came. */
async function played(play: Play) {
  const dir = await mkdtemp(join(tmpdir(), 'save-'));
  const socketPath = join(dir, 's.sock');
  const paths = { statePath: join(dir, 'state'), memoryPath: join(dir, 'memory') };
  const commands: string[] = [];
  let migration = play.migration ?? { status: 'completed' };
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    socket.write('{"QMP": {}}\n');
    socket.on('data', (chunk) => {
      for (const line of chunk.toString().trim().split('\n')) {
        const { execute, id } = JSON.parse(line);
        commands.push(execute);
        let result: object = {};
        if (execute === 'query-status') result = { status: play.status ?? 'paused' };
        if (execute === 'migrate_cancel') migration = { status: 'cancelled' };
        if (execute === 'query-migrate') result = migration;
        if (execute === 'migrate' && play.send !== undefined) {
          const sender = createConnection(socketPath);
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
  const ports = { qmp, socketPath, memoryBytes: PAGES * PAGE_BYTES };
  return {
    ...paths,
    dir,
    commands,
    save: async (changes: { signal?: AbortSignal; memoryPath?: string; statePath?: string } = {}) =>
      await save(ports, { ...paths, signal: never, ...changes }),
    async [Symbol.asyncDispose]() {
      qmp.close();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await rm(dir, { recursive: true });
    },
  };
}

const sendAll = (socket: Socket): void => void socket.end(STREAM);

test('memory and state appear whole and private, and the guest is left alone', async () => {
  await using it = await played({ send: sendAll });
  const state = await it.save();
  assert.deepEqual(await readFile(it.statePath), STATE);
  assert.equal(state.sizeBytes, STATE.length);
  assert.equal(state.sha256, createHash('sha256').update(STATE).digest('hex'));
  const memory = await readFile(it.memoryPath);
  assert.equal(memory.length, PAGES * PAGE_BYTES);
  assert.deepEqual([memory[299 * PAGE_BYTES - 1], memory[299 * PAGE_BYTES], memory.at(-1)], [0, 7, 7]);
  for (const path of [it.statePath, it.memoryPath]) assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.deepEqual(await readdir(it.dir), ['memory', 'qmp.sock', 'state']);
  assert.equal(it.commands.includes('cont'), false);
});

test('what fails leaves no file, breaks the migration off, and the guest does not go on', async () => {
  const sendOf = (stream: Buffer) => (socket: Socket) => void socket.end(stream);
  const tooMuch = (socket: Socket): void => {
    socket.write(STREAM);
    socket.write(Buffer.alloc(MAX_STATE_BYTES));
  };
  const failed = { status: 'failed', 'error-desc': 'no such channel' };
  const active = { status: 'active' };
  const cases: readonly (readonly [Play, object])[] = [
    [
      { migration: failed },
      { code: 'vmm_failed', message: 'QEMU could not write its state: no such channel' },
    ],
    [{ migration: failed, send: sendAll }, { code: 'vmm_failed' }],
    [{ migration: active, send: tooMuch }, { code: 'limit_exceeded' }],
    [
      { migration: active, send: sendOf(STREAM.subarray(0, 2000)) },
      { code: 'vmm_failed', message: /ends early/ },
    ],
    [{ migration: active, send: sendOf(Buffer.alloc(STREAM.length)) }, { code: 'vmm_failed' }],
    [{ send: sendOf(Buffer.alloc(0)) }, { code: 'vmm_failed', message: /ends early/ }],
  ];
  for (const [play, error] of cases) {
    await using it = await played(play);
    await assert.rejects(it.save(), error, JSON.stringify(play));
    assert.deepEqual(await readdir(it.dir), ['qmp.sock']);
    assert.equal(it.commands.includes('cont'), false);
    assert.equal(it.commands.includes('migrate_cancel'), true);
  }
});

test('only a guest that is paused is saved, and only once', async () => {
  for (const status of ['running', 'io-error', 'inmigrate', 'guest-panicked', 'shutdown', 'postmigrate']) {
    await using it = await played({ status });
    await assert.rejects(it.save(), { code: 'invalid_state' }, status);
    assert.deepEqual(it.commands, ['qmp_capabilities', 'query-status']);
    assert.deepEqual(await readdir(it.dir), ['qmp.sock']);
  }
});

test('cancelling ends the wait for a QEMU that does not connect, or does not end', async () => {
  const half = (socket: Socket): void => void socket.write(STREAM);
  for (const send of [undefined, half]) {
    await using it = await played({
      migration: { status: 'active' },
      ...(send === undefined ? {} : { send }),
    });
    await assert.rejects(it.save({ signal: AbortSignal.timeout(50) }), { code: 'cancelled' });
    assert.deepEqual(await readdir(it.dir), ['qmp.sock']);
    assert.equal(it.commands.includes('migrate_cancel'), true);
  }
});

test('a place that cannot be written is found out before QEMU is told anything', async () => {
  await using it = await played({ send: sendAll });
  const nowhere = join(it.dir, 'no', 'directory');
  for (const changes of [{ statePath: nowhere }, { memoryPath: nowhere }]) {
    await assert.rejects(it.save(changes), { code: 'io_error' });
    assert.deepEqual(await readdir(it.dir), ['qmp.sock']);
  }
  assert.equal(it.commands.includes('migrate'), false);
});

test('there is no memory without its state', async () => {
  await using it = await played({ send: sendAll });
  await mkdir(it.statePath);
  await assert.rejects(it.save(), { code: 'io_error' });
  assert.deepEqual(await readdir(it.dir), ['qmp.sock', 'state']);
});
