/** Registries that are not on this machine: https only, through a proxy where one is set. */

import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BangerError, type ErrorCode } from '../../src/core/errors.ts';
import { createRunner } from '../../src/host/runner.ts';
import { digestOf } from '../../src/oci/digest.ts';
import type { RegistryOptions } from '../../src/oci/registry.ts';
import { pullSnapshot, pushSnapshot } from '../../src/state/distribution.ts';
import { MIGRATIONS } from '../../src/store/migrations/list.ts';
import { smallState, snapshotOf } from '../helpers/state-fixture.ts';
import { makeCertificate } from './certificate.ts';
import { clientOf, passwordFor, Scratch } from './fixture.ts';
import { answer, artifactOf, ScriptedRegistry } from './scripted-registry.ts';

const migrations = MIGRATIONS;
const NAME = 'registry.example.com';
const snapshot = snapshotOf(smallState());
const artifact = artifactOf(snapshot);

/** Leads every CONNECT to one address, whatever name was asked for; `silent` ones it never answers. */
class Proxy implements AsyncDisposable {
  readonly tunnels: string[] = [];
  /** Called when the client gives up one of the silent ones. */
  onGivenUp: () => void = () => undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(target: string) {
    const [host = '', port = ''] = target.split(':');
    this.#server = createServer((_, response) => response.writeHead(500).end());
    this.#server.on('connection', (socket: Socket) => this.#sockets.add(socket));
    this.#server.on('connect', (request, socket: Socket) => {
      const name = request.url ?? '';
      this.tunnels.push(name);
      socket.on('error', () => socket.destroy());
      if (name.startsWith('silent.')) {
        socket.resume();
        // Sockets of servers stay half open.
        socket.once('end', () => {
          socket.end();
          this.onGivenUp();
        });
        return;
      }
      const upstream = connect(Number(port), host, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        upstream.pipe(socket);
        socket.pipe(upstream);
      });
      upstream.on('error', () => socket.destroy());
      socket.on('close', () => upstream.destroy());
    });
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve);
    });
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}

const scratch = new Scratch();
let registry: ScriptedRegistry;
let proxy: Proxy;
let certificatePath = '';
let options: Partial<RegistryOptions>;

before(async () => {
  const made = await makeCertificate(scratch, [NAME, `silent.${NAME}`]);
  certificatePath = made.certificatePath;
  const identity = { key: made.key, cert: made.certificate };
  registry = new ScriptedRegistry(artifact, (listener) => createSecureServer(identity, listener));
  proxy = new Proxy(await registry.start());
  options = {
    env: { HTTPS_PROXY: await proxy.start() },
    authorities: [made.certificate],
    limits: { retryDelayMs: 1 },
    credentials: passwordFor('alice', 'a secret'),
  };
});
after(async () => {
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  scratch[Symbol.dispose]();
});

async function refuses(code: ErrorCode, message: RegExp, work: Promise<unknown>): Promise<BangerError> {
  let caught: unknown;
  await work.catch((error: unknown) => {
    caught = error;
  });
  assert.ok(caught instanceof BangerError, String(caught));
  assert.equal(caught.code, code, caught.message);
  assert.match(caught.message, message);
  return caught;
}

test('push and pull over https, through the proxy', async () => {
  registry.run(() => false);
  const client = clientOf(`${NAME}/state`, options);
  await pushSnapshot(client, snapshot, { migrations });
  assert.ok((await pullSnapshot(client, artifact.digest, { migrations })).data.equals(snapshot.data));
  assert.deepEqual([...new Set(proxy.tunnels)], [`${NAME}:443`]);
});

test('a certificate nobody vouches for, or for another name', async () => {
  registry.run(() => false);
  const unknown = clientOf(`${NAME}/state`, { ...options, authorities: [] });
  const error = await refuses(
    'unavailable',
    /cannot be reached: DEPTH_ZERO_SELF_SIGNED_CERT/,
    pullSnapshot(unknown, artifact.digest, { migrations }),
  );
  assert.match(error.hint ?? '', /certificate/);
  const other = clientOf('other.example.com/state', options);
  await refuses(
    'unavailable',
    /ERR_TLS_CERT_ALTNAME_INVALID/,
    pullSnapshot(other, artifact.digest, { migrations }),
  );
  assert.deepEqual(registry.requests, []);
});

test('authorities of the host count', async () => {
  registry.run(() => false);
  const fixture = JSON.stringify(join(import.meta.dirname, 'fixture.ts'));
  const script = `import { clientOf } from ${fixture};
    const client = clientOf('${NAME}/state', { env: process.env });
    console.log((await client.getManifest('${artifact.digest}', [])).digest);`;
  const { stdout } = await createRunner().run([process.execPath, '--input-type=module', '-e', script], {
    env: { ...options.env, SSL_CERT_FILE: certificatePath, NODE_TEST_CONTEXT: undefined },
  });
  assert.equal(stdout.toString().trim(), artifact.digest);
});

test('nothing leads from https to plain http, this machine not excepted', async () => {
  await using plain = new ScriptedRegistry(artifact);
  const plainHost = await plain.start();
  const pull = async (): Promise<unknown> =>
    await pullSnapshot(clientOf(`${NAME}/state`, options), artifact.digest, { migrations });
  registry.run((_, response) => {
    answer(response, '', { location: `http://${plainHost}/blob` }, 307);
    return true;
  });
  await refuses('unavailable', /plain http on 127\.0\.0\.1:\d+: refused/, pull());
  registry.run((_, response) => {
    answer(response, '', { 'www-authenticate': `Bearer realm="http://${plainHost}/token"` }, 401);
    return true;
  });
  await refuses('unavailable', /plain http on 127\.0\.0\.1:\d+: refused/, pull());
  registry.run((request, response) => {
    if (request.method === 'HEAD') response.writeHead(404).end();
    else answer(response, '', { location: `http://${plainHost}/upload` }, 202);
    return true;
  });
  const push = pushSnapshot(clientOf(`${NAME}/state`, options), snapshot, { migrations });
  await refuses('unavailable', /plain http on 127\.0\.0\.1:\d+: refused/, push);
  assert.deepEqual(plain.requests, []);
});

test('the limit on connecting is none on waiting for an answer', async () => {
  registry.run((_, response) => {
    setTimeout(() => answer(response, 'late'), 2500);
    return true;
  });
  const limits = { connectMs: 2000 };
  const digest = digestOf(Buffer.from('late'));
  await clientOf(`${NAME}/state`, { ...options, limits }).getManifest(digest, []);
});

test('connections that are not made', async () => {
  const get = async (repository: string, change: Partial<RegistryOptions> = {}): Promise<unknown> =>
    await clientOf(repository, { ...options, ...change }).getManifest(artifact.digest, []);
  const givenUp = new Promise<void>((resolve) => {
    proxy.onGivenUp = resolve;
  });
  const limits = { connectMs: 500 };
  const silent = get(`silent.${NAME}/state`, { limits });
  await refuses('timeout', /did not accept a connection within 0\.5 s/, silent);
  await givenUp;
  const controller = new AbortController();
  const patient = { connectMs: 1_000_000, idleMs: 1_000_000, requestMs: 1_000_000 };
  const waiting = get(`silent.${NAME}/state`, { signal: controller.signal, limits: patient });
  setImmediate(() => controller.abort());
  await refuses('cancelled', /was cancelled/, waiting);
  const env = { HTTPS_PROXY: 'http://127.0.0.1:1' };
  await refuses('unavailable', /cannot be reached: connection refused/, get(`${NAME}/state`, { env }));
  await refuses('unavailable', /cannot be reached: connection refused/, get('127.0.0.1:1/state'));
  // Not through the proxy: there is no such name.
  const direct = { ...options.env, NO_PROXY: '.example.com' };
  proxy.tunnels.length = 0;
  await refuses(
    'unavailable',
    /cannot be reached: (no such host name|the name cannot)/,
    get(`${NAME}/state`, { env: direct }),
  );
  assert.deepEqual(proxy.tunnels, []);
});
