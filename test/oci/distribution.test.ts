/** Snapshots in a real registry, read and copied by skopeo, which nobody here wrote. */

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { BangerError } from '../../src/core/errors.ts';
import { createRunner } from '../../src/host/runner.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { MANIFEST_TYPES, OCI_MANIFEST } from '../../src/oci/media-types.ts';
import { pullSnapshot, pushSnapshot } from '../../src/state/distribution.ts';
import { ErrVerify } from '../../src/state/errors.ts';
import { MIGRATIONS } from '../../src/store/migrations/list.ts';
import { addVm, smallState, snapshotOf } from '../helpers/state-fixture.ts';
import { clientOf, Scratch } from './fixture.ts';
import { RegistryProcess } from './registry-process.ts';

const migrations = MIGRATIONS;
const runner = createRunner();
let registry: RegistryProcess;
before(async () => {
  registry = await RegistryProcess.start();
});
after(async () => {
  await registry[Symbol.asyncDispose]();
});

function place(name: string): string {
  return `${registry.host}/${name}`;
}

for (const encoding of ['identity', 'zstd'] as const) {
  test(`push, pull by digest, the same bytes again (${encoding})`, async () => {
    using scratch = new Scratch();
    const snapshot = snapshotOf(smallState(), encoding);
    const client = clientOf(place(`team/${encoding}`));
    const steps: [number, number][] = [];
    const onTransfer = (done: number, total: number): number => steps.push([done, total]);
    const pushed = await pushSnapshot(client, snapshot, { migrations, onTransfer });
    const size = snapshot.data.length + snapshot.manifestBytes.length;
    assert.equal(pushed.snapshot, snapshot.manifest.checksum);
    assert.equal(pushed.uploadedBytes, size);
    assert.deepEqual(steps.at(-1), [size, size]);

    steps.length = 0;
    const pulled = await pullSnapshot(client, pushed.digest, { migrations, onTransfer });
    assert.equal(pulled.digest, pushed.digest);
    assert.ok(pulled.data.equals(snapshot.data));
    assert.ok(pulled.manifestBytes.equals(snapshot.manifestBytes));
    assert.deepEqual(steps.at(-1), [size, size]);
    const put = await scratch.collection().put(pulled, ['from-elsewhere']);
    assert.equal(put.digest, snapshot.manifest.checksum);
    assert.equal(put.existed, false);
  });
}

test('pushing again uploads nothing and gives the same digest', async () => {
  const client = clientOf(place('again'));
  const first = await pushSnapshot(client, snapshotOf(smallState()), { migrations });
  const steps: unknown[] = [];
  const second = await pushSnapshot(client, snapshotOf(smallState()), {
    migrations,
    onTransfer: (...step) => steps.push(step),
  });
  assert.deepEqual(second, { ...first, uploadedBytes: 0 });
  assert.deepEqual(steps, []);
});

test('a tag is made only when it is asked for, moves, and resolves to a digest', async () => {
  const client = clientOf(place('tagged'));
  const state = smallState();
  const first = await pushSnapshot(client, snapshotOf(state), { migrations });
  await assert.rejects(
    pullSnapshot(client, 'latest', { migrations }),
    (error) => error instanceof BangerError && error.code === 'not_found',
  );
  assert.equal(await client.headManifest('latest', MANIFEST_TYPES), undefined);
  await pushSnapshot(client, snapshotOf(state), { migrations, tag: 'latest' });
  assert.equal((await pullSnapshot(client, 'latest', { migrations })).digest, first.digest);
  assert.deepEqual(await client.headManifest('latest', MANIFEST_TYPES), {
    digest: first.digest,
    mediaType: OCI_MANIFEST,
  });

  addVm(state, 'third');
  const second = await pushSnapshot(client, snapshotOf(state), { migrations, tag: 'latest' });
  assert.notEqual(second.digest, first.digest);
  assert.equal((await pullSnapshot(client, 'latest', { migrations })).digest, second.digest);
  assert.equal((await pullSnapshot(client, first.digest, { migrations })).digest, first.digest);
});

test('skopeo reads what was pushed: an artifact of our type, whose parts are the two files', async () => {
  const snapshot = snapshotOf(smallState(), 'zstd');
  const pushed = await pushSnapshot(clientOf(place('inspected')), snapshot, { migrations });
  const source = `docker://${place('inspected')}@${pushed.digest}`;
  const { stdout } = await runner.run(['skopeo', 'inspect', '--raw', '--tls-verify=false', source]);
  assert.equal(digestOf(stdout), pushed.digest);
  const hex = snapshot.manifest.checksum.slice('sha256:'.length);
  assert.deepEqual(JSON.parse(stdout.toString()), {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    artifactType: 'application/vnd.banger.state.snapshot.v1',
    config: {
      mediaType: 'application/vnd.banger.state.snapshot.config.v1+json',
      digest: digestOf(snapshot.manifestBytes),
      size: snapshot.manifestBytes.length,
    },
    layers: [
      {
        mediaType: 'application/vnd.banger.state.snapshot.v1.sql+zstd',
        digest: digestOf(snapshot.data),
        size: snapshot.data.length,
        annotations: { 'org.opencontainers.image.title': `${hex}.sql.zst` },
      },
    ],
    annotations: {
      'org.opencontainers.image.created': '2026-02-01T00:00:00.000Z',
      'org.opencontainers.image.title': `banger state ${snapshot.manifest.checksum}`,
    },
  });
});

test('skopeo copies it to a directory and back to another repository, where it is pulled as it was', async () => {
  using scratch = new Scratch();
  const snapshot = snapshotOf(smallState());
  const pushed = await pushSnapshot(clientOf(place('original')), snapshot, { migrations });
  const from = `docker://${place('original')}@${pushed.digest}`;
  const dir = scratch.path('copy');
  await runner.run(['skopeo', 'copy', '--src-tls-verify=false', from, `dir:${dir}`]);
  const copied = new Set(readdirSync(dir).map((name) => digestOf(readFileSync(`${dir}/${name}`))));
  for (const digest of [pushed.digest, digestOf(snapshot.data), digestOf(snapshot.manifestBytes)]) {
    assert.ok(copied.has(digest), digest);
  }
  const to = `docker://${place('copied')}:moved`;
  await runner.run(['skopeo', 'copy', '--dest-tls-verify=false', `dir:${dir}`, to]);
  const client = clientOf(place('copied'));
  const pulled = await pullSnapshot(client, 'moved', { migrations });
  assert.equal(pulled.digest, pushed.digest);
  assert.ok(pulled.data.equals(snapshot.data));
  assert.equal((await pushSnapshot(client, snapshot, { migrations })).uploadedBytes, 0);
});

test('an ordinary image, made and pushed by skopeo, is no snapshot', async () => {
  using scratch = new Scratch();
  // An OCI layout by hand: an empty tar as the one layer.
  const layout = scratch.path('layout');
  mkdirSync(`${layout}/blobs/sha256`, { recursive: true });
  const blob = (bytes: Buffer, mediaType: string): { mediaType: string; digest: string; size: number } => {
    const digest = digestOf(bytes);
    writeFileSync(`${layout}/blobs/sha256/${digest.slice(7)}`, bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const tar = Buffer.alloc(1024);
  const layer = blob(tar, 'application/vnd.oci.image.layer.v1.tar');
  const configJson = {
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
    config: {},
  };
  const config = blob(Buffer.from(JSON.stringify(configJson)), 'application/vnd.oci.image.config.v1+json');
  const manifest = blob(
    Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [layer] })),
    OCI_MANIFEST,
  );
  const reference = { ...manifest, annotations: { 'org.opencontainers.image.ref.name': 'v1' } };
  writeFileSync(`${layout}/index.json`, JSON.stringify({ schemaVersion: 2, manifests: [reference] }));
  writeFileSync(`${layout}/oci-layout`, '{"imageLayoutVersion":"1.0.0"}');
  for (const format of ['oci', 'v2s2']) {
    const to = `docker://${place('image')}:${format}`;
    await runner.run([
      'skopeo',
      'copy',
      `--format=${format}`,
      '--dest-tls-verify=false',
      `oci:${layout}:v1`,
      to,
    ]);
    await assert.rejects(
      pullSnapshot(clientOf(place('image')), format, { migrations }),
      (error) => error instanceof ErrVerify && error.reason === 'kind',
    );
  }
});

test('missing: repository, digest, tag', async () => {
  const digest = `sha256:${'0'.repeat(64)}`;
  for (const version of [digest, 'nothing']) {
    await assert.rejects(
      pullSnapshot(clientOf(place('not/there')), version, { migrations }),
      (error) =>
        error instanceof BangerError && error.code === 'not_found' && error.message.includes(version),
    );
  }
});

test('a damaged snapshot is not sent', async () => {
  const snapshot = snapshotOf(smallState());
  const data = Buffer.from(snapshot.data);
  data.writeUInt8(data.readUInt8(100) ^ 1, 100);
  const client = clientOf(place('untouched'));
  await assert.rejects(pushSnapshot(client, { ...snapshot, data }, { migrations }), ErrVerify);
  assert.equal(await client.hasBlob({ digest: digestOf(data), size: data.length }), false);
});

test('blobs of several megabytes, and none at all', async () => {
  const client = clientOf(place('blobs'));
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(1), Buffer.alloc(5_000_001, 'ab')]) {
    const blob = { digest: digestOf(bytes), size: bytes.length };
    const sent: number[] = [];
    assert.equal(await client.hasBlob(blob), false);
    await client.putBlob(blob, bytes, (count) => sent.push(count));
    assert.equal(sent.at(-1) ?? 0, bytes.length);
    assert.deepEqual(
      sent,
      [...sent].sort((a, b) => a - b),
    );
    assert.equal(await client.hasBlob(blob), true);
    assert.equal(await client.hasBlob({ ...blob, size: blob.size + 1 }), false);
    const received: number[] = [];
    assert.ok((await client.getBlob(blob, (count) => received.push(count))).equals(bytes));
    assert.equal(received.at(-1) ?? 0, bytes.length);
  }
});

test('a registry refuses bytes that are not what they are said to be', async () => {
  const client = clientOf(place('refused'));
  const blob = { digest: digestOf(Buffer.from('other')), size: 5 };
  await assert.rejects(
    client.putBlob(blob, Buffer.from('bytes')),
    (error) => error instanceof BangerError && /HTTP 400.*DIGEST_INVALID/.test(error.message),
  );
  assert.equal(await client.hasBlob(blob), false);
});

test('cancelled before and during a transfer', async () => {
  const controller = new AbortController();
  const client = clientOf(place('cancelled'), { signal: controller.signal });
  const bytes = Buffer.alloc(20_000_000);
  const blob = { digest: digestOf(bytes), size: bytes.length };
  const cancelled = (error: unknown): boolean => error instanceof BangerError && error.code === 'cancelled';
  await assert.rejects(
    client.putBlob(blob, bytes, () => controller.abort()),
    cancelled,
  );
  await assert.rejects(client.hasBlob(blob), cancelled);
  assert.equal(await clientOf(place('cancelled')).hasBlob(blob), false);
});
