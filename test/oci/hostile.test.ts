/** Registries that lie, flood, dawdle or lead astray: a stable code, a bounded number of requests, and nothing taken in. */

import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { after, before, test } from 'node:test';
import { BangerError, type ErrorCode } from '../../src/core/errors.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { OCI_MANIFEST } from '../../src/oci/media-types.ts';
import type { RegistryLimits } from '../../src/oci/limits.ts';
import type { RegistryOptions } from '../../src/oci/registry.ts';
import { pullSnapshot, pushSnapshot } from '../../src/state/distribution.ts';
import { MIGRATIONS } from '../../src/store/migrations/list.ts';
import { addVm, smallState, snapshotOf } from '../helpers/state-fixture.ts';
import { clientOf, passwordFor, Scratch } from './fixture.ts';
import { answer, artifactOf, type Part, type Script, ScriptedRegistry } from './scripted-registry.ts';

const migrations = MIGRATIONS;
const SECRET = 'off with their heads';
const HOURS = 3600;
const limits = { retryDelayMs: 1, maxWaitMs: 1000 };
/** For what is expected to take too long, and nothing else: a busy machine is silent now and then. */
const impatient = { ...limits, idleMs: 150 };
const snapshot = snapshotOf(smallState());
const artifact = artifactOf(snapshot);
const registry = new ScriptedRegistry(artifact);
let host = '';
let scratch: Scratch;

before(async () => {
  host = await registry.start();
  scratch = new Scratch();
  const other = smallState();
  addVm(other, 'kept');
  await scratch.collection().put(snapshotOf(other), ['latest', 'mine']);
});
after(async () => {
  scratch[Symbol.dispose]();
  await registry[Symbol.asyncDispose]();
});

async function pull(version = artifact.digest, options: Partial<RegistryOptions> = {}): Promise<void> {
  const credentials = passwordFor('alice', SECRET);
  const client = clientOf(`${host}/state`, { access: 'pull', limits, credentials, ...options });
  const pulled = await pullSnapshot(client, version, { migrations });
  await scratch.collection().put(pulled, ['latest', 'pulled']);
}

/** The pull fails with that code and message, changes nothing, and tells no secret. */
async function refuses(code: ErrorCode, message: RegExp, work: Promise<unknown>): Promise<BangerError> {
  const before = scratch.contents();
  let caught: unknown;
  await work.catch((error: unknown) => {
    caught = error;
  });
  assert.ok(caught instanceof BangerError, String(caught));
  assert.equal(caught.code, code, caught.message);
  assert.match(caught.message, message);
  const whole = `${caught.message} ${caught.hint} ${caught.stack} ${String(caught.cause)}`;
  assert.ok(
    !whole.includes(SECRET) && !whole.includes(Buffer.from(`alice:${SECRET}`).toString('base64')),
    whole,
  );
  assert.deepEqual(scratch.contents(), before);
  return caught;
}

function only(part: Part, does: (response: ServerResponse, count: number) => void): Script {
  return (request, response, count) => {
    if (registry.partOf(request) !== part) return false;
    does(response, count);
    return true;
  };
}

const flipped = (bytes: Buffer): Buffer => {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(10) ^ 1, 10);
  return copy;
};
const endlessly = (response: ServerResponse): void => {
  const more = (): void => {
    while (!response.destroyed && response.write(Buffer.alloc(64 * 1024))) continue;
  };
  response.writeHead(200, { 'content-type': OCI_MANIFEST });
  response.on('drain', more);
  more();
};
const drip = (response: ServerResponse): void => {
  response.writeHead(200, { 'content-type': OCI_MANIFEST });
  const timer = setInterval(() => response.write('x'), 20);
  response.on('close', () => clearInterval(timer));
};

test('other bytes than the digest says', async () => {
  registry.run(
    only('manifest', (r) => answer(r, flipped(artifact.manifest), { 'content-type': OCI_MANIFEST })),
  );
  await refuses('verify_failed', /manifest .* is not what it should be/, pull());
  const lie = { 'content-type': OCI_MANIFEST, 'docker-content-digest': `sha256:${'0'.repeat(64)}` };
  registry.run(only('manifest', (r) => answer(r, artifact.manifest, lie)));
  await refuses('verify_failed', /manifest .* is not what it should be/, pull('a-tag'));
  registry.run(only('config', (r) => answer(r, flipped(snapshot.manifestBytes))));
  await refuses('verify_failed', /blob .* is not what it should be/, pull());
  assert.ok(!registry.requests.some((request) => request.endsWith(snapshot.manifest.encoded_checksum)));
  registry.run(only('layer', (r) => answer(r, flipped(snapshot.data))));
  await refuses('verify_failed', /blob .* is not what it should be/, pull());
});

test('another length than the manifest says', async () => {
  registry.run(only('layer', (r) => answer(r, snapshot.data.subarray(1))));
  await refuses('verify_failed', /is not \d+ bytes long/, pull());
  registry.run(only('layer', (r) => answer(r, Buffer.concat([snapshot.data, Buffer.from('x')]))));
  await refuses('verify_failed', /is not \d+ bytes long/, pull());
  registry.run(only('layer', endlessly));
  await refuses('verify_failed', /is not \d+ bytes long/, pull());
  registry.run(only('layer', (r) => answer(r, '', { 'content-encoding': 'gzip' })));
  await refuses('verify_failed', /is not \d+ bytes long/, pull());
});

test('manifests without end, declared or not', async () => {
  registry.run(only('manifest', endlessly));
  await refuses('limit_exceeded', /larger than 4194304 bytes/, pull());
  registry.run(only('manifest', (r) => r.writeHead(200, { 'content-length': '4194305' }).write('{')));
  await refuses('limit_exceeded', /larger than 4194304 bytes/, pull());
});

test('silence, and a body that comes byte by byte', async () => {
  for (const part of ['manifest', 'config', 'layer'] as const) {
    registry.run(only(part, () => undefined));
    await refuses('timeout', /was silent for/, pull(undefined, { limits: impatient }));
    registry.run(only(part, (r) => r.writeHead(200, { 'content-type': OCI_MANIFEST }).write('x')));
    await refuses('timeout', /was silent for/, pull(undefined, { limits: impatient }));
  }
  const hurried = { limits: { ...limits, requestMs: 300, slowestBytesPerSecond: 1e9 } };
  registry.run(only('manifest', drip));
  await refuses('timeout', /reading the manifest .* took longer than/, pull(undefined, hurried));
  registry.run(only('layer', drip));
  await refuses('timeout', /reading the blob .* took longer than/, pull(undefined, hurried));
});

test('lost connections: three attempts, and one that succeeds counts', async () => {
  const lose = (response: ServerResponse): void => {
    response
      .writeHead(200, { 'content-length': String(snapshot.data.length) })
      .write(snapshot.data.subarray(0, 10));
    setImmediate(() => response.destroy());
  };
  registry.run(only('layer', lose));
  await refuses('unavailable', /the connection to .* was lost/, pull());
  assert.equal(registry.requests.filter((one) => one.endsWith(snapshot.manifest.encoded_checksum)).length, 3);
  registry.run(only('manifest', (r) => r.destroy()));
  await refuses('unavailable', /the connection to .* was lost/, pull());
  assert.equal(registry.requests.length, 3);
  registry.run(only('upload', (r) => r.destroy()));
  const client = clientOf(`${host}/state`, { limits });
  const blob = { digest: digestOf(Buffer.from('x')), size: 1 };
  await refuses('unavailable', /was lost/, client.putBlob(blob, Buffer.from('x')));
  assert.equal(registry.requests.length, 1);
  registry.run((_, response, count) => {
    if (count > 2) return false;
    response.destroy();
    return true;
  });
  await clientOf(`${host}/state`, { limits }).getManifest(artifact.digest, [OCI_MANIFEST]);
  assert.equal(registry.requests.length, 3);
});

test('busy: waits as asked, not for ever, and not for long', async () => {
  for (const status of [429, 503]) {
    const busy = { 'retry-after': '0' };
    registry.run((_, response) => {
      answer(response, '', busy, status);
      return true;
    });
    await refuses('unavailable', new RegExp(`is busy \\(HTTP ${status}\\)`), pull());
    assert.equal(registry.requests.length, 5);
    registry.run(only('manifest', (r) => answer(r, '', {}, status)));
    await refuses('unavailable', /is busy/, pull());
    assert.equal(registry.requests.length, 5);
    registry.run(only('manifest', (r) => answer(r, '', { 'retry-after': String(HOURS) }, status)));
    const error = await refuses('unavailable', /is busy/, pull());
    assert.match(error.hint ?? '', /in 3600 s, as it asks/);
    assert.equal(registry.requests.length, 1);
    registry.run((_, response, count) => {
      if (count > 4) return false;
      answer(response, '', busy, status);
      return true;
    });
    await clientOf(`${host}/state`, { limits }).getManifest(artifact.digest, [OCI_MANIFEST]);
    assert.equal(registry.requests.length, 5);
  }
});

test('what is no snapshot, whatever it is said to be', async () => {
  const good = JSON.parse(artifact.manifest.toString()) as {
    config: object;
    layers: [{ digest: string; size: number }];
  };
  const [layer] = good.layers;
  const deep = 1_000_000;
  const cases: [body: unknown, type: string, message: RegExp][] = [
    [good, 'text/html', /^kind: .*text\/html/],
    [good, 'application/vnd.oci.image.index.v1+json', /^kind/],
    [{ ...good, artifactType: 'application/vnd.example.other' }, OCI_MANIFEST, /^kind/],
    [{ ...good, artifactType: undefined }, OCI_MANIFEST, /^kind: .*an image/],
    [Buffer.from('<html>'), OCI_MANIFEST, /^manifest: of the artifact: not JSON/],
    [Buffer.from([0xff, 0xfe]), OCI_MANIFEST, /^manifest: of the artifact: not JSON/],
    [Buffer.from('['.repeat(deep) + ']'.repeat(deep)), OCI_MANIFEST, /^kind/],
    [Buffer.from('null'), OCI_MANIFEST, /^kind/],
    [{ ...good, schemaVersion: 1 }, OCI_MANIFEST, /^manifest: of the artifact: schemaVersion/],
    [{ ...good, subject: good.config }, OCI_MANIFEST, /^manifest: of the artifact/],
    [{ ...good, layers: [] }, OCI_MANIFEST, /^manifest: of the artifact: layers/],
    [{ ...good, layers: [layer, layer] }, OCI_MANIFEST, /^manifest: of the artifact: layers/],
    [
      { ...good, layers: [{ ...layer, size: -1 }] },
      OCI_MANIFEST,
      /^manifest: of the artifact: layers.0.size/,
    ],
    [{ ...good, layers: [{ ...layer, urls: ['https://x'] }] }, OCI_MANIFEST, /^manifest: of the artifact/],
    [{ ...good, layers: [{ ...layer, digest: 'sha256:../../x' }] }, OCI_MANIFEST, /layers.0.digest/],
    [{ ...good, layers: [{ ...layer, mediaType: 'text/plain' }] }, OCI_MANIFEST, /parts are of types/],
    [
      { ...good, layers: [{ ...layer, size: 2 ** 40 }] },
      OCI_MANIFEST,
      /^size: a payload of 1099511627776 bytes/,
    ],
    [{ ...good, config: { ...good.config, size: 2 ** 30 } }, OCI_MANIFEST, /^size: a manifest of/],
    [{ ...good, layers: [{ ...layer, size: layer.size + 1 }] }, OCI_MANIFEST, /holds another payload/],
    [
      { ...good, layers: [{ ...layer, digest: digestOf(Buffer.from('')) }] },
      OCI_MANIFEST,
      /holds another payload/,
    ],
  ];
  for (const [body, type, message] of cases) {
    const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    registry.run(only('manifest', (r) => answer(r, bytes, { 'content-type': type })));
    await refuses('verify_failed', message, pull('a-tag'));
    const layers = registry.requests.filter((one) => one.endsWith(layer.digest));
    assert.deepEqual(layers, [], 'no payload was asked for');
  }
});

test('redirects: bounded, never to plain http elsewhere, never with the login', async () => {
  const to = (location: string | undefined): Script =>
    only('layer', (r) => answer(r, '', location === undefined ? {} : { location }, 307));
  const loop = `/v2/state/blobs/${snapshot.manifest.encoded_checksum}`;
  registry.run(to(loop));
  await refuses('unavailable', /redirects more than 5 times/, pull());
  assert.equal(registry.requests.filter((one) => one.endsWith(loop)).length, 6);
  const elsewhere: [location: string | undefined, message: RegExp][] = [
    [
      'http://registry.example.com/blob?signature=abc',
      /plain http on another machine, registry\.example\.com: refused/,
    ],
    ['http://127.0.0.1.example.com/blob', /plain http on another machine/],
    ['ftp://127.0.0.1/blob', /an address of the kind "ftp:"/],
    ['file:///etc/passwd', /an address of the kind "file:"/],
    [`http://alice:pw@${host}/blob`, /an address with a login in it/],
    ['http://[', /an address that is none/],
    [undefined, /an address that is none/],
  ];
  for (const [location, message] of elsewhere) {
    registry.run(to(location));
    const error = await refuses('unavailable', message, pull());
    assert.ok(!error.message.includes('signature'), 'queries may be secrets');
  }

  await using storage = new ScriptedRegistry(artifact);
  const storageHost = await storage.start();
  const logins: (string | undefined)[] = [];
  storage.run((request) => {
    logins.push(request.headers.authorization);
    return false;
  });
  registry.run((request, response) => {
    if (request.headers.authorization === undefined) {
      answer(response, '', { 'www-authenticate': 'Basic realm="x"' }, 401);
      return true;
    }
    return to(`http://${storageHost}${loop}`)(request, response, 0);
  });
  const client = clientOf(`${host}/state`, {
    access: 'pull',
    limits,
    credentials: passwordFor('alice', SECRET),
  });
  const pulled = await pullSnapshot(client, artifact.digest, { migrations });
  assert.ok(pulled.data.equals(snapshot.data));
  assert.deepEqual(logins, [undefined]);
  storage.run((_, response) => {
    answer(response, '', {}, 403);
    return true;
  });
  const error = await refuses('unavailable', /answered HTTP 403 for the blob/, pull());
  assert.equal(error.hint, undefined, 'logging in would not help');
});

test('servers that ask for the login in odd ways get nothing', async () => {
  await using elsewhere = new ScriptedRegistry(artifact);
  const other = await elsewhere.start();
  const asks =
    (challenge: string | undefined): Script =>
    (_, response) => {
      answer(response, '', challenge === undefined ? {} : { 'www-authenticate': challenge }, 401);
      return true;
    };
  const cases: [challenge: string | undefined, code: ErrorCode, message: RegExp][] = [
    [undefined, 'unavailable', /a kind of login that banger does not know/],
    ['Negotiate', 'unavailable', /a kind of login that banger does not know/],
    ['Bearer', 'unavailable', /an address that is none/],
    ['Bearer realm="http://auth.example.com/token"', 'unavailable', /plain http on another machine/],
    [`Bearer realm="ftp://${other}/token"`, 'unavailable', /of the kind "ftp:"/],
    [`Bearer realm="http://a:b@${other}/token"`, 'unavailable', /a login in it/],
    [`Bearer realm="${'x'.repeat(9000)}"`, 'unavailable', /a kind of login/],
    [`Bearer realm="http://${other}/v2/state/manifests/x",service="x"`, 'unavailable', /no usable token/],
    ['Basic realm="x"', 'permission', /does not let us pull .*with the login in/],
  ];
  for (const [challenge, code, message] of cases) {
    registry.run(asks(challenge));
    await refuses(code, message, pull());
    assert.ok(registry.requests.length <= 2, 'one repetition at most');
  }
});

test('token servers that answer nonsense', async () => {
  await using tokens = new ScriptedRegistry(artifact);
  const realm = `http://${await tokens.start()}/token`;
  registry.run((_, response) => {
    answer(response, '', { 'www-authenticate': `Bearer realm="${realm}"` }, 401);
    return true;
  });
  const json =
    (value: unknown): Script =>
    (_, response) => {
      answer(response, JSON.stringify(value));
      return true;
    };
  const cases: [script: Script, code: ErrorCode, message: RegExp][] = [
    [json({ token: 'x'.repeat(13_000) }), 'unavailable', /no usable token/],
    [json({ token: 'x'.repeat(70_000) }), 'limit_exceeded', /token answer .* is larger than/],
    [json({ token: 'a\r\nx-evil: 1' }), 'unavailable', /no usable token/],
    [json({ token: 1 }), 'unavailable', /no usable token/],
    [json({ token: '', access_token: '' }), 'unavailable', /no usable token/],
    [json(null), 'unavailable', /no usable token/],
    [json([]), 'unavailable', /no usable token/],
    // Good, but the registry does not take it.
    [json({ token: 'good' }), 'permission', /does not let us pull/],
    [(_, r) => Boolean(answer(r, 'x', {}, 500)) || true, 'unavailable', /gave no token .*HTTP 500/],
    [
      (_, r) => Boolean(answer(r, 'x', { location: realm }, 302)) || true,
      'unavailable',
      /gave no token .*HTTP 302/,
    ],
    [(_, r) => Boolean(answer(r, SECRET, {}, 401)) || true, 'permission', /does not let us pull/],
    [(_, r) => Boolean(answer(r, '', { 'retry-after': '0' }, 429)) || true, 'unavailable', /is busy/],
    [(_, r) => Boolean(endlessly(r)) || true, 'limit_exceeded', /token answer .* is larger than/],
    [() => true, 'timeout', /was silent for/],
  ];
  for (const [script, code, message] of cases) {
    tokens.run(script);
    await refuses(code, message, pull(undefined, { limits: code === 'timeout' ? impatient : limits }));
    assert.ok(tokens.requests.length <= 5);
  }
});

test('what is not HTTP, or not the answer to the question', async () => {
  const raw = (text: string): Script =>
    only('manifest', (response) => {
      response.socket?.end(text);
    });
  const cases: [script: Script, code: ErrorCode, message: RegExp][] = [
    [raw('SSH-2.0-OpenSSH_9.2\r\n'), 'unavailable', /does not speak HTTP as it should/],
    [raw(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`), 'unavailable', /HPE_HEADER_OVERFLOW/],
    [
      raw('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'),
      'unavailable',
      /lost/,
    ],
    [raw('HTTP/1.1 204 No Content\r\n\r\n'), 'unavailable', /HTTP 204/],
    [raw('HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello'), 'unavailable', /HPE_/],
    [only('layer', (r) => answer(r, snapshot.data, {}, 206)), 'unavailable', /HTTP 206/],
    [only('manifest', (r) => answer(r, '', {}, 404)), 'not_found', /does not have the manifest/],
  ];
  for (const [script, code, message] of cases) {
    registry.run(script);
    await refuses(code, message, pull());
  }
  const report = JSON.stringify({
    errors: [{ code: SECRET, message: SECRET }, { code: 'NAME_INVALID' }, 7, null],
  });
  registry.run(only('manifest', (r) => answer(r, report, {}, 400)));
  await refuses('unavailable', /answered HTTP 400 for the manifest .*: NAME_INVALID$/, pull());
  registry.run(
    only('manifest', (r) => {
      r.statusCode = 500;
      r.write('{');
      setInterval(() => undefined, 1000).unref();
    }),
  );
  await refuses('timeout', /was silent/, pull(undefined, { limits: impatient }));
});

test('uploads that go wrong', async () => {
  const credentials = passwordFor('alice', SECRET);
  const push = async (allowed: Partial<RegistryLimits>): Promise<unknown> => {
    const client = clientOf(`${host}/state`, { limits: allowed, credentials });
    return await pushSnapshot(client, snapshot, { migrations, tag: 'latest' });
  };
  const missing: Script = (request, response) => {
    if (request.method !== 'HEAD') return false;
    response.writeHead(404).end();
    return true;
  };
  const uploading =
    (script: Script): Script =>
    (request, response, count) =>
      missing(request, response, count) || script(request, response, count);
  const digest = { 'docker-content-digest': `sha256:${'0'.repeat(64)}` };
  const cases: [script: Script, code: ErrorCode, message: RegExp][] = [
    [only('upload', (r) => answer(r, '', {}, 202)), 'unavailable', /an address that is none/],
    [
      only('upload', (r) => answer(r, '', { location: 'http://registry.example.com/x' }, 202)),
      'unavailable',
      /plain http/,
    ],
    [only('upload', (r) => answer(r, '', { location: '/' }, 307)), 'unavailable', /HTTP 307/],
    [only('upload', (r) => answer(r, '', {}, 403)), 'permission', /does not let us push/],
    [only('upload', () => undefined), 'timeout', /was silent/],
    [only('put', (r) => answer(r, '', digest, 201)), 'verify_failed', /is not what it should be/],
    [only('put', (r) => answer(r, '', {}, 413)), 'limit_exceeded', /is too large for/],
    [only('put', (r) => answer(r, '', {}, 500)), 'unavailable', /HTTP 500/],
    [only('put', (r) => answer(r, '', {}, 503)), 'unavailable', /answered HTTP 503/],
    [only('put', (r) => r.destroy()), 'unavailable', /was lost/],
    [only('put', () => undefined), 'timeout', /was silent/],
  ];
  for (const [script, code, message] of cases) {
    registry.run(uploading(script));
    await refuses(code, message, push(code === 'timeout' ? impatient : limits));
    assert.ok(
      !registry.requests.some((one) => one.includes('PUT /v2/state/manifests')),
      'no manifest without its blobs',
    );
  }
  registry.run(missing);
  await push(limits);
  const last = registry.requests.slice(-2).map((one) => one.split('/').at(-1));
  assert.deepEqual(last, [artifact.digest, 'latest']);
  assert.ok(registry.requests.some((one) => one.startsWith('PUT /upload/1?state=x&digest=sha256%3A')));
});
