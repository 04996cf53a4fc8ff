import assert from 'node:assert/strict';
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SnapshotView } from '../../api/results/state.ts';
import type { VmRecord } from '../../core/model/vm.ts';
import { type BangerPaths, resolvePaths } from '../../host/paths.ts';
import { DiskUseService } from './disk-use.ts';

const NEVER = new AbortController().signal;
/** More than any directory of a few names has. */
const FILE_BYTES = 1024 * 1024;

class Home implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'bt-df-'));
  readonly paths: BangerPaths = resolvePaths({ BANGER_HOME: this.dir }, 0);
  vms: readonly VmRecord[] = [];
  prunable: readonly SnapshotView[] = [];

  /** Half of it is a hole. */
  add(...parts: readonly string[]): string {
    const path = join(...parts);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, Buffer.alloc(FILE_BYTES, 1));
    truncateSync(path, 2 * FILE_BYTES);
    return path;
  }

  async rows(signal = NEVER) {
    const { paths } = this;
    const service = new DiskUseService({ paths, vms: () => this.vms, prunable: async () => this.prunable });
    const use = await service.measure(signal);
    assert.equal(
      use.allocatedBytes,
      use.rows.reduce((sum, row) => sum + row.allocatedBytes, 0),
    );
    return new Map(use.rows.map((row) => [row.kind, row]));
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Whole files' worth: what directories take depends on the file system. */
function files(bytes: number | undefined): number {
  return Math.floor((bytes ?? Number.NaN) / FILE_BYTES);
}

test('blocks on the disk by kind, and what gives how much of them back', async () => {
  using home = new Home();
  const { paths } = home;
  home.add(paths.imagesDir, 'debian', 'rootfs.ext4');
  home.add(paths.imagesDir, '.debian.tmp-1-1-0123456789ab', 'rootfs.ext4');
  home.add(paths.kernelsDir, 'cloud', 'vmlinux');
  home.add(paths.templatesDir, 'a'.repeat(64), 'memory');
  home.add(paths.templatesDir, 'failures.json');
  const ids = ['1', '2', '3'].map((digit) => digit.repeat(32));
  for (const id of ids) home.add(paths.vmsDir, id, 'root.qcow2');
  home.vms = ids.map((id, index) => ({
    ...{ id, state: index === 0 ? 'running' : 'stopped' },
    runtime: index === 1 ? { pending: 'delete' } : {},
  })) as unknown as readonly VmRecord[];
  const hex = ['4', '5'].map((digit) => digit.repeat(64));
  for (const one of hex) {
    home.add(paths.snapshotsDir, 'sha256', one);
    writeFileSync(join(paths.snapshotsDir, 'sha256', `${one}.manifest.json`), '{}');
  }
  home.prunable = [{ path: join(paths.snapshotsDir, 'sha256', '4'.repeat(64)) } as SnapshotView];
  home.add(paths.initramfsDir, 'x.cpio');
  home.add(paths.stateDir, 'state.db');
  const rows = await home.rows();
  const figures = [...rows.values()].map((row) => [
    row.kind,
    row.count,
    files(row.allocatedBytes),
    files(row.reclaimableBytes),
    row.reclaim,
  ]);
  assert.deepEqual(figures, [
    ['images', 1, 2, 0, null],
    ['kernels', 1, 1, 0, null],
    ['templates', 1, 2, 2, 'max_size = 0 in [templates] of config.toml'],
    ['vms', 3, 3, 1, 'banger vm prune'],
    ['state snapshots', 2, 2, 1, 'banger state prune'],
    ['caches', 1, 1, 1, `removing ${paths.cacheDir}; it is made again`],
    ['database and logs', 1, 1, 0, null],
  ]);
});

test('links are not followed, a file with two names counts once, and nothing at all is fine', async () => {
  using home = new Home();
  const { paths } = home;
  assert.ok([...(await home.rows()).values()].every(({ allocatedBytes }) => allocatedBytes === 0));
  const outside = home.add(home.dir, 'outside', 'file');
  mkdirSync(paths.vmsDir, { recursive: true });
  symlinkSync(join(outside, '..'), paths.imagesDir);
  symlinkSync(outside, join(paths.vmsDir, '1'.repeat(32)));
  const one = home.add(paths.kernelsDir, 'a', 'vmlinux');
  mkdirSync(join(paths.kernelsDir, 'b'));
  linkSync(one, join(paths.kernelsDir, 'b', 'vmlinux'));
  const rows = await home.rows();
  assert.deepEqual(
    ['images', 'vms', 'kernels'].map((kind) => files(rows.get(kind)?.allocatedBytes)),
    [0, 0, 1],
  );
  await assert.rejects(home.rows(AbortSignal.abort(new Error('enough'))), /enough/);
});
