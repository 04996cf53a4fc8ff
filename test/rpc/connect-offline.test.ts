import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connectOffline } from '../../src/cli/connect/connect-offline.ts';
import { HANDSHAKE_VERSION } from '../../src/core/buildinfo.ts';
import type { BangerError } from '../../src/core/errors.ts';
import type { RpcClient } from '../../src/rpc/client.ts';
import { isAlive, settled } from '../helpers/test-home.ts';
import { VERSION } from './fixture.ts';

const FAKE = fileURLToPath(new URL('./fake-offline.ts', import.meta.url));
const BANGERD = fileURLToPath(new URL('../../src/main/bangerd.ts', import.meta.url));

class Place implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'banger-offline-'));
  readonly clients: RpcClient[] = [];

  connect(how: string, program = process.execPath): RpcClient {
    const argv: [string, ...string[]] = [program, FAKE, this.dir, how];
    return this.#add(connectOffline({ argv, version: VERSION, showStderr: false }));
  }

  /** The real one. */
  real(version = HANDSHAKE_VERSION): RpcClient {
    const env = { ...process.env, BANGER_HOME: join(this.dir, 'home') };
    return this.#add(connectOffline({ argv: [process.execPath, BANGERD], version, env, showStderr: false }));
  }

  #add(client: RpcClient): RpcClient {
    this.clients.push(client);
    return client;
  }

  events(): readonly string[] {
    try {
      return readFileSync(join(this.dir, 'events'), 'utf8').trim().split('\n');
    } catch {
      return [];
    }
  }

  pid(): number {
    return Number(this.events()[0]?.replace('pid ', ''));
  }

  [Symbol.dispose](): void {
    for (const client of this.clients) client.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** proc_pid_stat(5), field 5. */
function groupOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]);
}

function failure(promise: Promise<unknown>): Promise<BangerError> {
  return promise.then(
    () => assert.fail('it did not fail'),
    (error: unknown) => error as BangerError,
  );
}

test('a process is started, answers, and ends when it is hung up on', async () => {
  using place = new Place();
  const client = place.connect('serve');
  assert.deepEqual(await client.call('state.list', {}), []);
  assert.ok(isAlive(place.pid()));
  client.close();
  await settled(() => !isAlive(place.pid()));
  assert.deepEqual(place.events().slice(1), ['ended']);
});

test('cancelling: the process undoes before the call settles', async () => {
  using place = new Place();
  const client = place.connect('serve');
  const abort = new AbortController();
  const call = client.call(
    'state.verify',
    {},
    { signal: abort.signal, onProgress: ({ text }) => text === 'begun' && abort.abort() },
  );
  assert.equal((await failure(call)).code, 'cancelled');
  assert.deepEqual(place.events().slice(1), ['begun', 'undoing', 'undone']);
});

test('hanging up in the middle: the process undoes, then ends', async () => {
  using place = new Place();
  const client = place.connect('serve');
  const call = failure(client.call('state.verify', {}, { onProgress: () => client.close() }));
  assert.equal((await call).code, 'cancelled');
  await settled(() => !isAlive(place.pid()));
  assert.deepEqual(place.events().slice(1), ['begun', 'undoing', 'undone', 'ended']);
});

test('one that dies early is quoted, without what a terminal would obey', async () => {
  using place = new Place();
  const { code, message } = await failure(place.connect('fail').call('state.list', {}));
  assert.equal(code, 'unavailable');
  assert.equal(
    message,
    'the process that does this without a daemon failed: it ended with status 3\n  cannot \u{fffd}[31mgo on',
  );
});

test('one that cannot be started is an error that says why', async () => {
  using place = new Place();
  const { code, message } = await failure(place.connect('serve', '/nonexistent').call('state.list', {}));
  assert.equal(code, 'unavailable');
  assert.match(message, /cannot be started: \/nonexistent: no such file or directory$/);
});

test('one that is killed while it works', async () => {
  using place = new Place();
  const client = place.connect('serve');
  const call = client.call('state.verify', {}, { onProgress: () => process.kill(place.pid(), 'SIGKILL') });
  assert.match((await failure(call)).message, /it was ended by SIGKILL$/);
  assert.match((await failure(client.call('state.list', {}))).message, /it was ended by SIGKILL$/);
});

test('what nobody planned for leads to no log, as there is none', async () => {
  using place = new Place();
  const error = await failure(place.connect('serve').call('doctor.run', {}));
  assert.equal(error.code, 'internal');
  assert.match(error.hint ?? '', /BANGER_DEBUG=1/);
  assert.equal(error.operationId, undefined);
});

test('bangerd --offline: state and health only, the same version only, and no file of its own', async () => {
  using place = new Place();
  const client = place.real();
  const error = await failure(client.call('vm.list', {}));
  assert.deepEqual(
    [error.code, error.message, error.hint],
    ['unavailable', 'vm.list needs the daemon', 'banger daemon start'],
  );
  assert.equal((await failure(client.call('daemon.status', {}))).code, 'unavailable');
  assert.deepEqual(await client.call('state.list', {}), []);
  assert.equal((await failure(place.real('0').call('state.list', {}))).code, 'version_mismatch');
  assert.deepEqual(readdirSync(place.dir), []);
});

test('bangerd --offline: signals do not end it, its client does', async () => {
  using place = new Place();
  const client = place.real();
  const { pid } = await client.hello();
  // Nor does Ctrl-C reach it, which a terminal sends to a whole group: it could not refuse one while it starts.
  assert.equal(groupOf(pid), pid);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.kill(pid, signal);
  assert.deepEqual(await client.call('state.list', {}), []);
  client.close();
  await settled(() => !isAlive(pid));
  assert.ok(!isAlive(pid));
});

test('bangerd --offline by hand says what it lacks', () => {
  const { status, stderr } = spawnSync(process.execPath, [BANGERD, '--offline'], { encoding: 'utf8' });
  assert.equal(status, 2);
  assert.equal(stderr, 'bangerd: --offline needs a client on file descriptor 3\n');
});
