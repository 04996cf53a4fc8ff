import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from '../../core/errors.ts';
import { QmpClient, type QmpEvent } from './qmp.ts';

const GREETING = '{"QMP": {"version": {}, "capabilities": ["oob"]}}\r\n';

interface Command {
  readonly execute: string;
  readonly arguments: Record<string, unknown>;
  readonly id: number;
}
type Script = (command: Command, socket: Socket) => void;

/** A peer that greets, agrees to the negotiation, and answers everything else by the script. */
async function scripted(script: Script, greeting: string | Buffer = GREETING) {
  const dir = await mkdtemp(join(tmpdir(), 'qmp-'));
  const path = join(dir, 's');
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.write(greeting);
    let rest = '';
    socket.on('data', (chunk) => {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const command = JSON.parse(line) as Command;
        if (command.execute === 'qmp_capabilities') socket.write(`{"return": {}, "id": ${command.id}}\r\n`);
        else script(command, socket);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    path,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await rm(dir, { recursive: true });
    },
  };
}

test('negotiates, sends arguments and returns the answer, whatever the order of answers', async () => {
  const held: Command[] = [];
  await using peer = await scripted((command, socket) => {
    held.push(command);
    if (held.length < 2) return;
    for (const { id, arguments: args } of held.toReversed()) {
      socket.write(`${JSON.stringify({ return: { echo: args }, id })}\r\n`);
    }
  });
  const client = await QmpClient.connect(peer.path);
  const answers = await Promise.all([client.execute('one', { a: 1 }), client.execute('two')]);
  assert.deepEqual(answers, [{ echo: { a: 1 } }, { echo: {} }]);
  assert.deepEqual(
    held.map((command) => command.execute),
    ['one', 'two'],
  );
  client.close();
});

test('takes lines cut anywhere, and several at once', async () => {
  await using peer = await scripted((command, socket) => {
    const text = `{"event": "STOP", "data": {"x": "ü"}}\n{"event": "RESUME"}\n{"return": 7, "id": ${command.id}}\n`;
    for (const byte of Buffer.from(text)) socket.write(Buffer.of(byte));
  });
  const events: QmpEvent[] = [];
  const client = await QmpClient.connect(peer.path, { onEvent: (event) => events.push(event) });
  assert.equal(await client.execute('x'), 7);
  assert.deepEqual(events, [
    { name: 'STOP', data: { x: 'ü' } },
    { name: 'RESUME', data: {} },
  ]);
  client.close();
});

test('an event is waited for by its name; the end of the connection ends the wait', async () => {
  let peerSocket: Socket | undefined;
  await using peer = await scripted(({ id }, socket) => {
    peerSocket = socket;
    socket.write(`{"return": {}, "id": ${id}}\r\n`);
  });
  const events: string[] = [];
  const client = await QmpClient.connect(peer.path, { onEvent: ({ name }) => events.push(name) });
  await client.execute('query-status');
  const seen: string[] = [];
  const waits = ['A', 'A', 'B'].map(async (name) => {
    await client.nextEvent(name);
    seen.push(name);
  });
  peerSocket?.write('{"event": "C", "data": {}}\n{"event": "A", "data": {}}\n');
  await Promise.all(waits.slice(0, 2));
  assert.deepEqual(
    [seen, events],
    [
      ['A', 'A'],
      ['C', 'A'],
    ],
  );
  // The one that was, is not the next one.
  const again = client.nextEvent('A').then(() => 'again');
  assert.equal(await Promise.race([again, client.execute('query-status').then(() => 'answer')]), 'answer');
  client.close();
  await Promise.all([...waits, again, client.nextEvent('A')]);
});

test('a refusal rejects with its reason and the connection goes on', async () => {
  await using peer = await scripted((command, socket) => {
    const body =
      command.execute === 'bad' ? { error: { class: 'GenericError', desc: 'no such thing' } } : { return: 1 };
    socket.write(`${JSON.stringify({ ...body, id: command.id })}\n`);
  });
  const client = await QmpClient.connect(peer.path);
  await assert.rejects(client.execute('bad'), {
    code: 'vmm_failed',
    message: 'QEMU refused bad: no such thing',
  });
  assert.equal(await client.execute('good'), 1);
  client.close();
});

test('an answer that comes too late is dropped, and the connection goes on', async () => {
  let slow: Command | undefined;
  await using peer = await scripted((command, socket) => {
    if (slow === undefined) slow = command;
    else socket.write(`{"return": "late", "id": ${slow.id}}\n{"return": "now", "id": ${command.id}}\n`);
  });
  const client = await QmpClient.connect(peer.path);
  await assert.rejects(client.execute('slow', {}, 20), { code: 'timeout' });
  assert.equal(await client.execute('quick'), 'now');
  client.close();
});

test('a hang-up rejects what waits and settles closed; later commands are refused', async () => {
  await using peer = await scripted((_, socket) => void socket.destroy());
  const client = await QmpClient.connect(peer.path);
  await assert.rejects(client.execute('x'), { code: 'vmm_failed' });
  assert.equal((await client.closed).code, 'vmm_failed');
  await assert.rejects(client.execute('y'), { code: 'vmm_failed' });
});

test('close is idempotent and ends the wait of a command', async () => {
  await using peer = await scripted(() => {});
  const client = await QmpClient.connect(peer.path);
  const waiting = client.execute('x');
  client.close();
  client.close();
  await assert.rejects(waiting, { code: 'vmm_failed' });
});

test('what is not QMP ends the connection', async () => {
  const wrongs: readonly (string | Buffer)[] = [
    'hello\n',
    '[]\n',
    'null\n',
    '{}\n',
    '{"return": 1}\n',
    '{"id": 1}\n',
    '{"id": "1", "return": 1}\n',
    '{"error": "text", "id": 1}\n',
    Buffer.from([0x22, 0xff, 0x22, 0x0a]),
    'x'.repeat(1024 * 1024 + 1),
  ];
  for (const wrong of wrongs) {
    await using peer = await scripted((_, socket) => void socket.write(wrong));
    const client = await QmpClient.connect(peer.path);
    await assert.rejects(client.execute('x'), { code: 'vmm_failed' }, String(wrong).slice(0, 40));
  }
});

test('a line of the largest size is taken', async () => {
  const empty = '{"event": "E", "data": {"t": ""}}';
  const line = empty.replace('""', `"${'x'.repeat(1024 * 1024 - empty.length)}"`);
  await using peer = await scripted((command, socket) => {
    socket.write(`${line}\n{"return": 1, "id": ${command.id}}\n`);
  });
  const client = await QmpClient.connect(peer.path);
  assert.equal(await client.execute('x'), 1);
  client.close();
});

test('a peer that does not greet costs a bounded time; one that is not there costs none', async () => {
  await using peer = await scripted(() => {}, '');
  await assert.rejects(QmpClient.connect(peer.path, { timeoutMs: 20 }), { code: 'timeout' });
  await assert.rejects(QmpClient.connect(`${peer.path}-missing`), { code: 'vmm_failed' });
});

test('no bytes at all can do more than end the connection', async () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
    fc.json().map((json) => Buffer.from(`${json}\n`)),
  );
  await fc.assert(
    fc.asyncProperty(bytes, async (junk) => {
      await using peer = await scripted((_, socket) => void socket.end(junk));
      const client = await QmpClient.connect(peer.path);
      await assert.rejects(client.execute('x'), BangerError);
    }),
    { numRuns: 60 },
  );
});
