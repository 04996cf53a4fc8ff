/** A state of a given size with plausible rows, for benchmarks and limits. */

import { createHash } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { transaction } from '../../src/store/sql.ts';

const AT = '2026-01-31T12:00:00.000Z';
const IMAGES = 20;
/** About what a row takes in the file, with its indexes. */
const ROW_BYTES = 937;

/**
 * Fills the database of a store, just opened, until its file has about that many megabytes (10^6 bytes). The same rows
 * every time. Stopped VMs have no address here: there are fewer addresses than rows.
 */
export function fillState(database: DatabaseSync, megabytes: number): void {
  const image = database.prepare('INSERT INTO images VALUES (?, ?, 1, ?, ?, NULL, ?, ?, ?, ?, NULL, ?, ?)');
  const vm = database.prepare("INSERT INTO vms VALUES (?, ?, ?, '', 'stopped', ?, ?, ?, ?, ?, ?, ?)");
  transaction(database, () => {
    for (let index = 0; index < IMAGES; index += 1) {
      const dir = `/home/user/.local/state/banger/images/image-${index}`;
      const kernel = `/home/user/.local/state/banger/kernels/kernel-${index}`;
      image.run(
        id('image', index),
        `image-${index}`,
        dir,
        `${dir}/root.qcow2`,
        `${kernel}/vmlinux`,
        `${kernel}/initrd`,
        `${kernel}/modules`,
        '734003200',
        AT,
        AT,
      );
    }
    const rows = Math.round((megabytes * 1e6) / ROW_BYTES);
    for (let index = 0; index < rows; index += 1) {
      const name = `sandbox-${index}`;
      vm.run(
        id('vm', index),
        name,
        id('image', index % IMAGES),
        AT,
        AT,
        AT,
        spec(index),
        runtime(index),
        stats(index),
        workspace(name, index),
      );
    }
  });
}

/** Random-looking, as ids are: rows do not lie in the order of a dump. */
function id(kind: string, index: number): string {
  return createHash('sha256').update(`${kind} ${index}`).digest('hex').slice(0, 32);
}

function spec(index: number): string {
  return JSON.stringify({
    imageName: `image-${index % IMAGES}`,
    vcpus: 2,
    memoryMib: 2048,
    diskSizeBytes: 8 * 1024 ** 3,
    nat: false,
    init: 'agent',
    accel: 'auto',
    driver: 'qemu',
    ephemeral: index % 2 === 0,
  });
}

function runtime(index: number): string {
  return JSON.stringify({
    accelerator: 'kvm',
    machine: 'microvm',
    bootId: id('boot', index),
    startedAt: AT,
    stoppedAt: AT,
  });
}

function stats(index: number): string {
  return JSON.stringify({
    sampledAt: AT,
    cpuMs: index * 10,
    rssBytes: 268435456 + index,
    diskBytes: 1073741824 + index,
  });
}

function workspace(name: string, index: number): string {
  return JSON.stringify({
    guestPath: `/workspace/${name}`,
    sourcePath: `/home/user/projects/${name}/a-repository-with-a-long-name`,
    headCommit: createHash('sha1').update(String(index)).digest('hex'),
    preparedAt: AT,
  });
}
