/** Builds the real default image from Debian's mirror (a minute or more) and looks into it with debugfs. */

import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createRunner } from '../../src/host/runner.ts';
import { DEFAULT_IMAGE_NAME } from '../../src/images/debian-recipe.ts';
import { checkExt4 } from '../../src/images/ext4.ts';
import { buildImage } from '../../src/images/image-build.ts';
import { DEFAULT_KERNEL_NAME } from '../../src/images/kernel-build.ts';
import { readImageManifest } from '../../src/images/manifests.ts';
import { sparseDigest } from '../../src/host/sparse-digest.ts';
import { toolEnv } from '../../src/images/tools.ts';

const runner = createRunner();
const never = new AbortController().signal;
let dir = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'banger-image-'));
});
after(() => rm(dir, { recursive: true }));

function options(signal = never) {
  const [imagesDir, scratchDir] = [join(dir, 'images'), join(dir, 'scratch')];
  const names = { name: DEFAULT_IMAGE_NAME, kernelName: DEFAULT_KERNEL_NAME };
  return { ...names, imagesDir, scratchDir, runner, signal, onProgress: () => {} };
}

/** Processes that mention our directories: what a build that is over must not leave. */
async function processesOfBuild(): Promise<readonly string[]> {
  const { stdout } = await runner.run(['ps', '-eo', 'pid=,args=', '-ww']);
  return stdout
    .toString('utf8')
    .split('\n')
    .filter((line) => line.includes(`${dir}/`));
}

const mounts = async () => (await runner.run(['cat', '/proc/self/mounts'])).stdout.toString('utf8');

for (const step of ['index', 'fetch_base', 'install_base', 'install']) {
  test(`cancelled at ${step}, a build leaves no process, mount or file`, async () => {
    const before = await mounts();
    const controller = new AbortController();
    let reached = false;
    const building = buildImage({
      ...options(controller.signal),
      onProgress: (progress) => {
        if (progress.step !== step) return;
        reached = true;
        controller.abort();
      },
    });
    await assert.rejects(building, { code: 'cancelled' });
    assert(reached);
    assert.deepEqual(await processesOfBuild(), []);
    assert.equal(await mounts(), before);
    assert.deepEqual(await readdir(join(dir, 'images')), []);
    assert.deepEqual(await readdir(join(dir, 'scratch')), []);
    const ours = (await readdir('/var/tmp')).filter((name) => name.includes(`.tmp-${process.pid}-`));
    assert.deepEqual(ours, []);
  });
}

test('the image is whole, clean and neutral', async () => {
  const manifest = await buildImage(options());
  const imageDir = join(dir, 'images', DEFAULT_IMAGE_NAME);
  const rootfs = join(imageDir, manifest.rootfs.file);
  assert.deepEqual(await readImageManifest(imageDir), manifest);
  assert.equal(await sparseDigest(rootfs, runner, never), manifest.rootfs.sha256);
  await checkExt4(rootfs, runner, never);
  for (const name of ['git', 'openssh-server', 'systemd', 'python3-minimal']) {
    assert(
      manifest.packages.some((item) => item.startsWith(`${name}=`)),
      name,
    );
  }
  const debugfs = async (command: string) =>
    (await runner.run(['debugfs', '-R', command, rootfs], { env: toolEnv() })).stdout.toString('latin1');
  assert.match(await debugfs('stat /usr/bin/sudo'), /Mode: +04755[^]*User: +0 +Group: +0 /);
  assert.match(await debugfs('stat /etc/shadow'), /Mode: +0640[^]*User: +0 +Group: +42 /);
  assert.match(await debugfs('stat /root'), /Mode: +0700/);
  assert.match(await debugfs('stat /dev/null'), /character special[^]*01:03/);
  assert.match(await debugfs('stat /etc/machine-id'), /Size: 0\n/);
  assert.match(await debugfs('ea_get -x /usr/bin/ping security.capability'), /01 00 00 02 00 20 00 00/);
  assert.match(await debugfs('cat /etc/passwd'), /^root:x:0:0:root:\/root:\/bin\/bash$/m);
  assert.match(await debugfs('cat /etc/shadow'), /^root:\*:/m);
  assert.doesNotMatch(await debugfs('ls /etc/ssh'), /ssh_host_/);
  assert.doesNotMatch(await debugfs('ls /var/lib/apt/lists'), /Packages/);
});
