import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { FakeGuest } from '../../test/helpers/fake-guest.ts';
import { settled } from '../../test/helpers/test-home.ts';
import { encodeU32, FRAME_TYPES, INITIAL_WINDOW_BYTES, STDIN, STDOUT } from '../core/channel/frame.ts';
import { AgentClient } from './agent-client.ts';
import type { GuestStream } from './stream.ts';
import { TcpPipe } from './tcp-pipe.ts';

const HOOKS = { moved: () => undefined, received: () => undefined };

const open: { destroy(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.destroy();
});

interface Scene {
  readonly guest: FakeGuest;
  readonly client: Socket;
  readonly daemonSide: Socket;
  readonly stream: GuestStream;
  readonly pipe: TcpPipe;
  /** Bytes of the client that have reached the guest. */
  readonly arrived: () => number;
  readonly ended: () => boolean;
}

/** A client, a pipe, and a guest that does nothing by itself: it grants no credit. */
async function scene(): Promise<Scene> {
  let arrived = 0;
  let ended = false;
  const guest = new FakeGuest({
    onFrame: (frame) => {
      if (frame.type === FRAME_TYPES.data) arrived += frame.payload.length;
      if (frame.type === FRAME_TYPES.eof) ended = true;
    },
  });
  const signal = new AbortController().signal;
  const agent = await AgentClient.connect(guest.hostSide, { signal, timeoutMs: 5000 });
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const client = connect({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  client.on('error', () => undefined);
  const [daemonSide] = (await accepted) as [Socket];
  server.close();
  open.push(client, daemonSide, { destroy: () => agent.close() });
  const stream = agent.connectTo({ port: 80 });
  const pipe = new TcpPipe(daemonSide, HOOKS);
  pipe.attach(stream);
  return { guest, client, daemonSide, stream, pipe, arrived: () => arrived, ended: () => ended };
}

test('what a client sent before it ended arrives, however late the guest takes it', async () => {
  const { guest, client, daemonSide, stream, pipe, arrived, ended } = await scene();
  const total = INITIAL_WINDOW_BYTES + 150_000;
  guest.send(FRAME_TYPES.eof, stream.id, STDOUT);
  client.resume().end(Buffer.alloc(total));
  await settled(() => client.writableFinished && arrived() === INITIAL_WINDOW_BYTES);
  let isClosed = false;
  void pipe.closed.then(() => {
    isClosed = true;
  });
  const step = 1000;
  for (let granted = INITIAL_WINDOW_BYTES; granted < total; granted += step) {
    guest.send(FRAME_TYPES.window, stream.id, STDIN, encodeU32(step));
    const expected = Math.min(granted + step, total);
    await settled(() => arrived() === expected, 2000);
    assert.equal(arrived(), expected);
  }
  await settled(() => ended());
  assert.ok(ended(), 'the end is missing');
  assert.ok(daemonSide.destroyed);
  assert.equal(isClosed, false, 'it can still be aborted');
  guest.close(stream.id, { kind: 'done', status: 0 });
  await pipe.closed;
});

test('a guest that says it is done before both ends are over resets the client', async () => {
  const { guest, client, stream, pipe } = await scene();
  const error = once(client.resume(), 'error');
  guest.close(stream.id, { kind: 'done', status: 0 });
  assert.equal(((await error)[0] as NodeJS.ErrnoException).code, 'ECONNRESET');
  await pipe.closed;
});
