import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, afterEach, test } from 'node:test';
import type { KernelManifest } from '../core/model/image.ts';
import { createRunner } from '../host/runner.ts';
import { ensureInitramfs, type EnsureInitramfsOptions } from './initramfs.ts';
import { formatManifest } from './manifests.ts';

const kernel: KernelManifest = {
  manifestVersion: 1,
  name: 'k',
  distro: 'd',
  arch: 'amd64',
  release: '1',
  vmlinux: { file: 'vmlinux', sizeBytes: 1, sha256: 'b'.repeat(64) },
  modules: { mmio: ['modules/ring.ko', 'modules/mmio.ko'], pci: ['modules/ring.ko'] },
  source: 's',
  importedAt: '2026-01-01T00:00:00.000Z',
};
let dir = '';
let options: EnsureInitramfsOptions;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'banger-initramfs-'));
  await mkdir(join(dir, 'k', 'modules'), { recursive: true });
  await writeFile(join(dir, 'k', 'modules', 'ring.ko'), 'ring');
  await writeFile(join(dir, 'k', 'modules', 'mmio.ko'), 'mmio');
  await writeFile(join(dir, 'k', 'manifest.json'), formatManifest(kernel));
  await writeFile(join(dir, 'agent'), 'agent');
  options = {
    kernelDir: join(dir, 'k'),
    kernel,
    agentPath: join(dir, 'agent'),
    transport: 'mmio',
    cacheDir: join(dir, 'cache'),
  };
});
afterEach(() => rm(dir, { recursive: true }));

test('holds the agent, the modules, their order and the mount points', async () => {
  const { path, digest } = await ensureInitramfs(options);
  const bytes = await readFile(path);
  assert.equal(createHash('sha256').update(bytes).digest('hex'), digest);
  const run = createRunner();
  const names = (await run.run(['cpio', '-it', '--quiet'], { input: bytes })).stdout
    .toString()
    .trim()
    .split('\n');
  for (const name of ['init', 'dev/console', 'proc', 'sys', 'newroot', 'modules/ring.ko', 'modules/order']) {
    assert(names.includes(name), name);
  }
  const order = await run.run(['cpio', '-i', '--quiet', '--to-stdout', 'modules/order'], { input: bytes });
  assert.equal(order.stdout.toString(), 'ring.ko\nmmio.ko\n');
});

test('is made once, again for a changed agent, and its own for each transport', async () => {
  const first = await ensureInitramfs(options);
  const made = await stat(first.path);
  assert.deepEqual(await ensureInitramfs(options), first);
  assert.equal((await stat(first.path)).ino, made.ino);
  const pci = await ensureInitramfs({ ...options, transport: 'pci' });
  assert.notEqual(pci.digest, first.digest);
  await writeFile(options.agentPath, 'AGENT');
  const changed = await ensureInitramfs(options);
  assert.notEqual(changed.digest, first.digest);
});

test('is made again when the file has gone', async () => {
  const first = await ensureInitramfs(options);
  await rm(first.path);
  assert.deepEqual(await ensureInitramfs(options), first);
  assert((await stat(first.path)).isFile());
});

test('names the file that is missing', async () => {
  await rm(options.agentPath);
  await assert.rejects(ensureInitramfs(options), { code: 'not_found', message: /agent is missing/ });
  await writeFile(options.agentPath, 'agent');
  await rm(join(dir, 'k', 'modules', 'mmio.ko'));
  await assert.rejects(ensureInitramfs(options), { code: 'not_found', message: /mmio\.ko is missing/ });
});
