import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DoctorHome } from '../../../test/helpers/doctor-home.ts';
import { temporaryPath } from '../../host/files.ts';
import { ensureInitramfs } from '../../images/initramfs.ts';
import { readKernelManifest } from '../../images/manifests.ts';

/** As `temporaryPath` names them, of a process that cannot be there any more. */
function deadTemporary(path: string): string {
  return temporaryPath(path).replace(/\.tmp-\d+-\d+-/, '.tmp-1-1-');
}

test('nothing yet is fine', async () => {
  using home = new DoctorHome();
  assert.equal(await home.says('images.files'), 'ok: none yet');
  assert.equal(await home.says('images.kernels'), 'ok: none yet');
  assert.equal(await home.says('images.unregistered'), 'ok: none');
  assert.equal(await home.says('images.initramfs'), 'ok: empty');
  assert.equal(await home.says('images.scratch'), 'ok: none');
  assert.equal(await home.says('images.digests'), 'ok: nothing to read');
});

test('images.files', async () => {
  using home = new DoctorHome();
  const { image } = await home.populate();
  const says = async (): Promise<string> => await home.says('images.files');
  assert.equal(await says(), 'ok: whole: debian-bookworm');
  truncateSync(image.rootfsPath, 512);
  assert.match(
    await says(),
    /^failure: image "debian-bookworm": .*has 512 bytes; its manifest says 1048576 → banger image build/,
  );
  rmSync(image.rootfsPath);
  assert.match(await says(), /^failure: .*rootfs\.ext4 is missing/);
  const manifest = join(image.artifactDir, 'manifest.json');
  const text = readFileSync(manifest, 'utf8');
  writeFileSync(manifest, text.slice(0, -20));
  assert.match(await says(), /^failure: .*manifest\.json is not JSON/);
  writeFileSync(manifest, text.replace('"manifestVersion": 1', '"manifestVersion": 2'));
  assert.match(await says(), /^failure: .*manifest version 2/);
  rmSync(manifest);
  assert.match(await says(), /^failure: .*has no manifest/);
});

test('images.files: the kernel, and a row that names other files', async () => {
  using home = new DoctorHome();
  const { image } = await home.populate();
  home.withStore((store) => store.upsertImage({ ...image, kernelPath: '/no/such/vmlinux' }));
  assert.match(
    await home.says('images.files'),
    /^failure: .*row names \/no\/such\/vmlinux, which is not there/,
  );
  home.withStore((store) => store.upsertImage(image));
  assert.match(await home.says('images.files'), /^ok/);
  rmSync(join(home.paths.kernelsDir, 'debian-bookworm-cloud'), { recursive: true });
  const said = await home.says('images.files');
  assert.match(said, /failure: .*its kernel "debian-bookworm-cloud" is missing/);
});

test('images.kernels', async () => {
  using home = new DoctorHome();
  const dir = home.makeDirectories().addKernel();
  const says = async (): Promise<string> => await home.says('images.kernels');
  assert.equal(await says(), 'ok: whole: debian-bookworm-cloud');
  rmSync(join(dir, 'modules', 'virtio.ko'));
  assert.match(await says(), /^failure: kernel "debian-bookworm-cloud": .*virtio\.ko is missing/);
  appendFileSync(join(dir, 'vmlinux'), 'x');
  assert.match(await says(), /^failure: .*vmlinux has 14 bytes; its manifest says 13 → remove/);
  rmSync(join(dir, 'vmlinux'));
  assert.match(await says(), /^failure: .*vmlinux is missing/);
  writeFileSync(join(dir, 'manifest.json'), '{}');
  assert.match(await says(), /^failure: .*manifest\.json is damaged/);
  rmSync(join(dir, 'manifest.json'));
  assert.match(await says(), /^failure: .*has no manifest/);
});

test('images.unregistered', async () => {
  using home = new DoctorHome();
  await home.populate();
  assert.equal(await home.says('images.unregistered'), 'ok: none');
  mkdirSync(join(home.paths.imagesDir, 'from-before'));
  assert.match(
    await home.says('images.unregistered'),
    /^info: .*from-before belongs to no row .*→ banger state rebuild/,
  );
});

/** A real one, made as for a VM. */
async function makeInitramfs(home: DoctorHome): Promise<string> {
  const kernelDir = home.addKernel();
  const kernel = await readKernelManifest(kernelDir);
  assert.ok(kernel);
  const agentPath = join(home.guestBinDir, 'banger-agent');
  const options = {
    kernelDir,
    kernel,
    agentPath,
    transport: 'mmio',
    cacheDir: home.paths.initramfsDir,
  } as const;
  return (await ensureInitramfs(options)).path;
}

test('images.initramfs', async () => {
  using home = new DoctorHome();
  const path = await makeInitramfs(home.makeDirectories());
  assert.equal(await home.says('images.initramfs'), 'ok: 1 kept');
  truncateSync(path, 0);
  assert.match(await home.says('images.initramfs'), /^failure: .*\.cpio is empty.*→ rm /);
  rmSync(path);
  assert.match(await home.says('images.initramfs'), /^info: .*leads nowhere/);
});

test('images.scratch', async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  const { scratchDir, imagesDir } = home.paths;
  // Of a live process: this one.
  mkdirSync(temporaryPath(join(scratchDir, 'image')));
  assert.equal(await home.says('images.scratch'), 'ok: none');
  mkdirSync(deadTemporary(join(scratchDir, 'image')));
  mkdirSync(deadTemporary(join(imagesDir, 'debian')));
  assert.match(
    await home.says('images.scratch'),
    /^warning: .*scratch holds 1 that dead processes left: .*\[fixable\]\nwarning: .*images holds 1 .*\[fixable\]$/,
  );
  const fixes = await home.fix(false, 'images.scratch');
  assert.deepEqual(
    fixes.map(({ done, error }) => [done, error]),
    [
      [true, null],
      [true, null],
    ],
  );
  assert.equal(await home.says('images.scratch'), 'ok: none');
  writeFileSync(join(scratchDir, 'mine'), '');
  assert.match(await home.says('images.scratch'), /^info: .*no build of banger made: mine → [^[]*$/);
});

test('images.digests', async () => {
  using home = new DoctorHome();
  const { image } = await home.populate();
  const cpio = await makeInitramfs(home);
  const says = async (): Promise<string> => await home.says('images.digests');
  assert.equal(await says(), 'ok: 3 files are as they were made');
  assert.ok(home.progress.some(({ step, unit }) => step === 'images.digests' && unit === 'bytes'));
  const flip = (path: string): void => {
    const bytes = readFileSync(path);
    bytes[3] = (bytes[3] ?? 0) ^ 1;
    writeFileSync(path, bytes);
  };
  for (const [path, name] of [
    [image.rootfsPath, 'rootfs.ext4'],
    [image.kernelPath, 'vmlinux'],
    [cpio, '.cpio'],
  ] as const) {
    flip(path);
    assert.match(
      await says(),
      new RegExp(`^failure: .*${name.replace('.', '\\.')} has the digest [0-9a-f]{64}, not`),
    );
    flip(path);
    assert.match(await says(), /^ok/);
  }
  rmSync(image.kernelPath);
  assert.match(await says(), /^failure: .*vmlinux cannot be read/);
});

test('images.digests can be cancelled', async () => {
  using home = new DoctorHome();
  await home.populate();
  const abort = new AbortController();
  const report = home.report({ deep: true, signal: abort.signal });
  abort.abort();
  await assert.rejects(report, { code: 'cancelled' });
});

test('a directory of images that is a link elsewhere is looked at all the same', async () => {
  using home = new DoctorHome();
  using other = new DoctorHome();
  await other.populate();
  home.makeDirectories();
  rmSync(home.paths.kernelsDir, { recursive: true });
  symlinkSync(other.paths.kernelsDir, home.paths.kernelsDir);
  assert.match(await home.says('images.kernels'), /^ok: whole/);
});
