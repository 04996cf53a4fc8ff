import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ApiRequest, callApi, NotListening } from './api.ts';

const dir = await mkdtemp(join(tmpdir(), 'fc-api-'));
after(() => rm(dir, { recursive: true }));
let number = 0;

/** A server that says this to whatever comes, and keeps what came. */
async function serving(
  answer: (socket: Socket) => void,
): Promise<{ path: string; said: string[]; server: Server }> {
  const path = join(dir, `${number++}.sock`);
  const said: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      said.push(chunk.toString());
      // A body comes by itself.
      const text = said.join('');
      if (text.startsWith('GET') || text.includes('\r\n\r\n{')) answer(socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  after(() => server.close());
  return { path, said, server };
}

const GET: ApiRequest = { method: 'GET', path: '/' };
const PUT: ApiRequest = { method: 'PUT', path: '/vsock', body: { guest_cid: 3 } };
const json = (status: string, text: string): string =>
  `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text}`;

test('a request has a length and a body, and its answer is JSON or nothing', async () => {
  const put = await serving((socket) => socket.write('HTTP/1.1 204 No Content\r\n\r\n'));
  assert.equal(await callApi(put.path, PUT), undefined);
  const said = put.said.join('');
  assert.match(said, /^PUT \/vsock HTTP\/1\.1\r\n/);
  assert.match(said, /\r\nContent-Length: 15\r\n/i);
  assert.equal(said.split('\r\n\r\n')[1], '{"guest_cid":3}');
  const get = await serving((socket) => socket.write(json('200 OK', '{"state":"Paused"}')));
  assert.deepEqual(await callApi(get.path, GET), { state: 'Paused' });
});

test('what it refuses has its own words, and no byte that a terminal would obey', async () => {
  const { path } = await serving((socket) =>
    socket.write(json('400 Bad Request', '{"fault_message":"no \\u001b[2J kernel"}')),
  );
  await assert.rejects(callApi(path, PUT), {
    code: 'vmm_failed',
    message: 'Firecracker refused PUT /vsock (400): no  [2J kernel',
  });
});

test('answers that make no sense, have no end, or do not come', async () => {
  const cases: readonly (readonly [(socket: Socket) => void, string])[] = [
    [(socket) => socket.write(json('200 OK', '{"state":')), 'vmm_failed'],
    [(socket) => socket.write('SSH-2.0\r\n\r\n'), 'vmm_failed'],
    [(socket) => socket.write(json('200 OK', `"${'x'.repeat(70_000)}"`)), 'vmm_failed'],
    [(socket) => socket.destroy(), 'vmm_failed'],
    [(socket) => socket.write('HTTP/1.1 200 OK\r\n'), 'timeout'],
    [(socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{'), 'timeout'],
  ];
  for (const [at, [answer, code]] of cases.entries()) {
    const { path } = await serving(answer);
    const timeoutMs = code === 'timeout' ? 50 : 60_000;
    await assert.rejects(callApi(path, GET, { timeoutMs }), { code }, `case ${at}`);
  }
});

test('nobody listens; a request that is given up', async () => {
  await assert.rejects(callApi(join(dir, 'nobody'), GET), NotListening);
  const { path } = await serving(() => {});
  const abort = new AbortController();
  const given = assert.rejects(callApi(path, GET, { signal: abort.signal }), { code: 'cancelled' });
  abort.abort();
  await given;
});
