/** Records for tests that need a row and do not care which. */

import type { ImageRecord } from '../../src/core/model/image.ts';
import type { VmRecord } from '../../src/core/model/vm.ts';
import type { VmWorkspace } from '../../src/core/model/workspace.ts';
import { newId } from '../../src/host/ids.ts';

const AT = '2026-01-31T12:00:00.000Z';

export function someImage(change: Partial<ImageRecord> = {}): ImageRecord {
  return {
    id: newId(),
    name: 'debian-bookworm',
    managed: true,
    artifactDir: '/images/debian-bookworm',
    rootfsPath: '/images/debian-bookworm/root.qcow2',
    workSeedPath: null,
    kernelPath: '/kernels/debian/vmlinux',
    initrdPath: '',
    modulesDir: '/kernels/debian/modules',
    buildSize: '734003200',
    seededSshPublicKeyFingerprint: null,
    createdAt: AT,
    updatedAt: AT,
    ...change,
  };
}

/** A VM as `insertVm` takes it: without an address. */
export function someVm(imageId: string, change: Partial<VmRecord> = {}): Omit<VmRecord, 'guestIp'> {
  return {
    id: newId(),
    name: 'dev',
    imageId,
    state: 'created',
    spec: {
      imageName: 'debian-bookworm',
      vcpus: 2,
      memoryMib: 2048,
      diskSizeBytes: 8 * 1024 ** 3,
      nat: false,
      init: 'agent',
      accel: 'auto',
      driver: 'qemu',
      ephemeral: false,
      publish: [],
    },
    runtime: {},
    stats: {},
    workspace: null,
    createdAt: AT,
    updatedAt: AT,
    lastTouchedAt: AT,
    ...change,
  };
}

export function someWorkspace(change: Partial<VmWorkspace> = {}): VmWorkspace {
  return {
    guestPath: '/root/repo',
    sourcePath: '/home/u/repo',
    headCommit: 'a'.repeat(40),
    mode: 'shallow_overlay',
    submodules: [],
    readOnly: false,
    branch: null,
    from: null,
    includeUntracked: false,
    shipped: { branch: 'main', commit: 'b'.repeat(40), tree: 'c'.repeat(40), staged: 'd'.repeat(64) },
    tools: null,
    preparedAt: AT,
    ...change,
  };
}
