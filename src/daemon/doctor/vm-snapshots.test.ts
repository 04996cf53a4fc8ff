import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DoctorHome } from '../../../test/helpers/doctor-home.ts';
import { VmSnapshotStore } from '../../frozen/vm-snapshot-store.ts';
import { temporaryPath } from '../../host/files.ts';
import { newId } from '../../host/ids.ts';
import { createRunner } from '../../host/runner.ts';
import { sparseDigest } from '../../host/sparse-digest.ts';
import { readImageManifest } from '../../images/manifests.ts';

const NEVER = new AbortController().signal;

async function add(home: DoctorHome, name: string): Promise<string> {
  const { image, vm } = await home.populate();
  const store = new VmSnapshotStore(home.paths.vmSnapshotsDir);
  const id = newId();
  await using draft = await store.draft(id);
  const part = async (file: string) => {
    const path = join(draft.dir, file);
    writeFileSync(path, `what is in ${file}`);
    const sparseSha256 = await sparseDigest(path, createRunner(), NEVER);
    return { sizeBytes: `what is in ${file}`.length, sparseSha256 };
  };
  const rootfsSha256 = (await readImageManifest(image.artifactDir))?.rootfs.sha256 ?? '';
  const sha256 = 'd'.repeat(64);
  const memory = await part('memory');
  const { sizeBytes } = await part('state');
  const state = { sizeBytes, sha256: createHash('sha256').update('what is in state').digest('hex') };
  await store.writeManifest(draft, {
    ...{ id, name, createdAt: new Date().toISOString(), shape: {}, vcpus: 1, memoryMib: 1, rootDiskBytes: 1 },
    ...{ kernel: { name: 'k', sha256 }, initramfsSha256: sha256, accelerator: 'tcg', machine: 'microvm' },
    image: { name: image.name, rootfsSha256 },
    vm: { id: vm.id, name: vm.name, spec: vm.spec, workspace: null },
    ...{ memory, state, rootDisk: await part('root.qcow2'), transferDisk: await part('transfer.img') },
  });
  assert.ok(await draft.publish());
  return store.dirOf(id);
}

test('none, and a whole one, are fine', async () => {
  using home = new DoctorHome();
  assert.equal(await home.says('vms.snapshots'), 'ok: none');
  await add(home, 'kept');
  assert.equal(await home.says('vms.snapshots'), 'ok: 1, all with their files');
  assert.equal(await home.says('vms.snapshot-digests'), 'ok: 1 is as it was made');
});

test('a file that is lost or cut off, a damaged manifest', async () => {
  using home = new DoctorHome();
  const dir = await add(home, 'cut');
  truncateSync(join(dir, 'memory'), 3);
  assert.match(await home.says('vms.snapshots'), /^failure: snapshot "cut": \S+memory has 3 bytes, not 17/);
  rmSync(join(dir, 'memory'));
  assert.match(await home.says('vms.snapshots'), /^failure: snapshot "cut": \S+memory cannot be read/);
  writeFileSync(join(dir, 'manifest.json'), '{}');
  assert.match(
    await home.says('vms.snapshots'),
    /^failure: snapshot [0-9a-f]{12}: \S+manifest.json is damaged/,
  );
});

test('one whose image is gone', async () => {
  using home = new DoctorHome();
  await add(home, 'homeless');
  for (const name of readdirSync(home.paths.imagesDir)) {
    rmSync(join(home.paths.imagesDir, name), { recursive: true });
  }
  assert.match(
    await home.says('vms.snapshots'),
    /^warning: snapshot "homeless" cannot be used: its image .* is not here/,
  );
});

test('a changed byte is for --deep to find', async () => {
  using home = new DoctorHome();
  const dir = await add(home, 'kept');
  writeFileSync(join(dir, 'root.qcow2'), 'what is in root.qcow3');
  assert.equal(await home.says('vms.snapshots'), 'ok: 1, all with their files');
  assert.match(
    await home.says('vms.snapshot-digests'),
    /^failure: snapshot "kept": \S+root.qcow2 has changed/,
  );
  writeFileSync(join(dir, 'root.qcow2'), 'what is in root.qcow2');
  writeFileSync(join(dir, 'state'), 'what is in stata');
  assert.match(await home.says('vms.snapshot-digests'), /^failure: snapshot "kept": \S+state has changed/);
});

test('what killed daemons left', async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  const { vmSnapshotsDir } = home.paths;
  mkdirSync(join(vmSnapshotsDir, newId()), { recursive: true });
  assert.match(await home.says('vms.snapshots'), /^info: \S+ is left of a snapshot/);
  rmSync(vmSnapshotsDir, { recursive: true });
  const dead = temporaryPath(join(vmSnapshotsDir, newId())).replace(`tmp-${process.pid}-`, 'tmp-999999999-');
  mkdirSync(dead, { recursive: true });
  assert.match(await home.says('vms.snapshots'), /^info: \S+ is left of a snapshot/);
  await home.fix();
  assert.equal(await home.says('vms.snapshots'), 'ok: none');
});
