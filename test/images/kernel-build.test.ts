/** Builds the real kernel from Debian's mirror and looks at every promise of its manifest. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BangerError } from '../../src/core/errors.ts';
import { createRunner } from '../../src/host/runner.ts';
import { createAptRoot } from '../../src/images/apt-root.ts';
import { findSources } from '../../src/images/apt-sources.ts';
import { unpackDeb } from '../../src/images/deb.ts';
import { buildKernel, DEFAULT_KERNEL_NAME, extractVmlinux } from '../../src/images/kernel-build.ts';
import { readKernelManifest } from '../../src/images/manifests.ts';
import { parseModuleInfo } from '../../src/images/modules.ts';

const runner = createRunner();
const never = new AbortController().signal;
let dir = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'banger-kernel-'));
});
after(() => rm(dir, { recursive: true }));

function options(signal = never) {
  const [kernelsDir, scratchDir] = [join(dir, 'kernels'), join(dir, 'scratch')];
  return { name: DEFAULT_KERNEL_NAME, kernelsDir, scratchDir, runner, signal, onProgress: () => {} };
}

test('a published kernel is whole: digest, ELF, modules in an order that loads', async () => {
  const manifest = await buildKernel(options());
  const kernelDir = join(dir, 'kernels', DEFAULT_KERNEL_NAME);
  assert.deepEqual(await readKernelManifest(kernelDir), manifest);
  const vmlinux = await readFile(join(kernelDir, manifest.vmlinux.file));
  assert.equal(createHash('sha256').update(vmlinux).digest('hex'), manifest.vmlinux.sha256);
  assert(vmlinux.includes(`Linux version ${manifest.release} `));
  for (const files of [manifest.modules.mmio, manifest.modules.pci]) {
    const loaded = new Set<string>();
    for (const file of files) {
      const { name, depends } = parseModuleInfo(file, await readFile(join(kernelDir, file)));
      assert(
        depends.every((dependency) => loaded.has(dependency)),
        `${name} needs ${depends.join()}`,
      );
      loaded.add(name);
    }
    for (const needed of ['virtio_blk', 'virtio_console', 'virtio_net', 'overlay', 'squashfs']) {
      assert(loaded.has(needed), needed);
    }
  }
  assert.deepEqual(await readdir(join(dir, 'scratch')), []);
  assert.deepEqual(await readdir(join(dir, 'kernels')), [DEFAULT_KERNEL_NAME]);
});

test('a cancelled build leaves nothing', async () => {
  const controller = new AbortController();
  const started = options(controller.signal);
  const building = buildKernel({
    ...started,
    name: 'cancelled',
    onProgress: ({ step }) => {
      if (step === 'unpack') controller.abort();
    },
  });
  await assert.rejects(building, { code: 'cancelled' });
  assert.deepEqual(await readdir(started.scratchDir), []);
  assert(!(await readdir(started.kernelsDir)).includes('cancelled'));
});

test('a real bzImage that is cut off or damaged is refused, and nothing worse', async () => {
  const aptDir = join(dir, 'apt');
  const tree = join(dir, 'tree');
  await mkdir(aptDir);
  await mkdir(tree);
  const sources = await findSources('bookworm', runner, never);
  const apt = await createAptRoot({
    dir: aptDir,
    sources,
    arch: 'amd64',
    runner,
    signal: never,
    onProgress: () => {},
  });
  await apt.update();
  const [, release = '', version = ''] =
    /linux-image-(\S+) \(= ([^)]+)\)/.exec((await apt.field('linux-image-cloud-amd64', 'Depends')) ?? '') ??
    [];
  const debPath = await apt.download(`linux-image-${release}`, version);
  const wanted = (name: string) => name.startsWith('boot/vmlinuz-');
  await unpackDeb({ debPath, targetDir: tree, wanted, runner, signal: never });
  const image = await readFile(join(tree, 'boot', `vmlinuz-${release}`));
  assert((await extractVmlinux(image, { runner, signal: never })).length > image.length);

  for (const length of [0, 1, 511, 0x24f, 0x250, 4096, 100_000, image.length >> 1]) {
    await assert.rejects(extractVmlinux(image.subarray(0, length), { runner, signal: never }), BangerError);
  }
  const damaged = Buffer.from(image);
  damaged.fill(0xff, image.length >> 1, (image.length >> 1) + 4096);
  await assert.rejects(extractVmlinux(damaged, { runner, signal: never }), { code: 'bad_request' });
});
