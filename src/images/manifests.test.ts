import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ImageManifest, KernelManifest } from '../core/model/image.ts';
import { formatManifest, readImageManifest, readKernelManifest } from './manifests.ts';

let dir = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'banger-manifest-'));
});
after(() => rm(dir, { recursive: true }));

const image: ImageManifest = {
  manifestVersion: 1,
  name: 'x',
  distro: 'debian-bookworm',
  arch: 'amd64',
  kernelName: 'k',
  rootfs: { file: 'rootfs.ext4', format: 'raw', sizeBytes: 1, virtualSizeBytes: 2, sha256: 'a'.repeat(64) },
  source: 's',
  builtAt: '2026-01-01T00:00:00.000Z',
  packages: ['bash=5'],
};
const kernel: KernelManifest = {
  manifestVersion: 1,
  name: 'k',
  distro: 'debian-bookworm',
  arch: 'amd64',
  release: '6.1.0',
  vmlinux: { file: 'vmlinux', sizeBytes: 1, sha256: 'b'.repeat(64) },
  modules: { mmio: ['modules/virtio.ko'], pci: [] },
  source: 's',
  importedAt: '2026-01-01T00:00:00.000Z',
};

const put = (content: string) => writeFile(join(dir, 'manifest.json'), content);

test('what was written is read again', async () => {
  await put(formatManifest(image));
  assert.deepEqual(await readImageManifest(dir), image);
  await put(formatManifest(kernel));
  assert.deepEqual(await readKernelManifest(dir), kernel);
});

test('a directory without a manifest is not there', async () => {
  assert.equal(await readImageManifest(join(dir, 'nothing')), undefined);
});

test('a manifest of a newer version is refused, and says so', async () => {
  await put(JSON.stringify({ ...image, manifestVersion: 2, somethingNew: true }));
  await assert.rejects(readImageManifest(dir), { code: 'version_mismatch', message: /version 2/ });
});

test('a damaged manifest is refused', async () => {
  const bad: unknown[] = [
    [],
    { ...image, extra: 1 },
    { ...image, rootfs: { ...image.rootfs, sha256: 'A'.repeat(64) } },
    { ...image, rootfs: { ...image.rootfs, file: '../rootfs.ext4' } },
    { ...image, rootfs: { ...image.rootfs, file: '/etc/shadow' } },
    { ...image, rootfs: { ...image.rootfs, file: 'a//b' } },
    { ...image, rootfs: { ...image.rootfs, sizeBytes: -1 } },
    { ...image, name: undefined },
  ];
  for (const value of bad) {
    await put(JSON.stringify(value));
    await assert.rejects(readImageManifest(dir), { code: 'io_error' }, JSON.stringify(value));
  }
  await put('{');
  await assert.rejects(readImageManifest(dir), { code: 'io_error' });
});

test('a manifest of absurd size is refused unread', async () => {
  await put(`${' '.repeat(1024 * 1024)}{}`);
  await assert.rejects(readImageManifest(dir), { code: 'limit_exceeded' });
});
