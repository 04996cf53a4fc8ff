/** Checks of snapshots of VMs: those that cannot be used, what killed processes left of some, and, deep, every byte. */

import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../core/errors.ts';
import { shortId } from '../../core/names.ts';
import { counted } from '../../core/units.ts';
import { frozenPaths, isWholeState } from '../../frozen/manifest.ts';
import { type VmSnapshot, VmSnapshotStore } from '../../frozen/vm-snapshot-store.ts';
import { sparseDigest } from '../../host/sparse-digest.ts';
import { readImageManifest } from '../../images/manifests.ts';
import { type Check, failure, info, type Outcome, orOk, warning } from './check.ts';
import type { DoctorContext } from './context.ts';
import { deadTemporaries, sweep } from './temporaries.ts';

interface Part {
  readonly path: string;
  readonly sizeBytes: number;
  /** Undefined: of the state, which has a digest of another kind. */
  readonly sparseSha256: string | undefined;
}

function partsOf({ dir, manifest }: VmSnapshot): readonly Part[] {
  const paths = frozenPaths(dir);
  const { memory, state, rootDisk, transferDisk } = manifest;
  return [
    { path: paths.rootDisk, ...rootDisk },
    { path: paths.transferDisk, ...transferDisk },
    ...(memory === null ? [] : [{ path: paths.memory, ...memory }]),
    ...(state === null ? [] : [{ path: paths.state, sizeBytes: state.sizeBytes, sparseSha256: undefined }]),
  ];
}

async function problemOf(part: Part): Promise<string | undefined> {
  try {
    const { size } = await stat(part.path);
    return size === part.sizeBytes ? undefined : `${part.path} has ${size} bytes, not ${part.sizeBytes}`;
  } catch (error) {
    return `${part.path} cannot be read: ${errorText(error)}`;
  }
}

/** What its disk stands on, as far as there is something to say. */
async function imageProblem({ manifest }: VmSnapshot, context: DoctorContext): Promise<string | undefined> {
  const { name, rootfsSha256 } = manifest.image;
  const image = await readImageManifest(join(context.paths.imagesDir, name)).catch(() => undefined);
  if (image === undefined) return `its image "${name}" is not here`;
  return image.rootfs.sha256 === rootfsSha256 ? undefined : `its image "${name}" is another one now`;
}

async function lookAt(snapshot: VmSnapshot, context: DoctorContext): Promise<readonly Outcome[]> {
  const { name } = snapshot.manifest;
  const problems = await Promise.all(partsOf(snapshot).map(problemOf));
  const broken = problems.find((problem) => problem !== undefined);
  const fix = `banger vm snapshot delete ${name}`;
  if (broken !== undefined) return [failure(`snapshot "${name}": ${broken}`, { fix })];
  const why = await imageProblem(snapshot, context);
  return why === undefined ? [] : [warning(`snapshot "${name}" cannot be used: ${why}`, { fix })];
}

const snapshots: Check<DoctorContext> = {
  id: 'vms.snapshots',
  group: 'vms',
  title: 'snapshots of VMs',
  timeoutMs: 15_000,
  run: async (context) => {
    const { vmSnapshotsDir } = context.paths;
    const store = new VmSnapshotStore(vmSnapshotsDir);
    const { whole, broken } = await store.list();
    const outcomes: Outcome[] = broken.map(({ id, problem }) =>
      failure(`snapshot ${shortId(id)}: ${problem}`, { fix: `banger vm snapshot delete ${shortId(id)}` }),
    );
    for (const snapshot of whole) outcomes.push(...(await lookAt(snapshot, context)));
    for (const path of await store.leftovers()) {
      outcomes.push(
        info(`${path} is left of a snapshot`, { fix: 'the next start of the daemon removes it' }),
      );
    }
    for (const path of await deadTemporaries(vmSnapshotsDir)) {
      outcomes.push(info(`${path} is left of a snapshot`, { repair: sweep(vmSnapshotsDir) }));
    }
    return orOk(outcomes, whole.length === 0 ? 'none' : `${whole.length}, all with their files`);
  },
};

const digests: Check<DoctorContext> = {
  id: 'vms.snapshot-digests',
  group: 'vms',
  title: 'digests of snapshots of VMs',
  timeoutMs: 30 * 60_000,
  deep: true,
  alone: true,
  run: async (context, signal) => {
    const { whole } = await new VmSnapshotStore(context.paths.vmSnapshotsDir).list();
    const problems: Outcome[] = [];
    for (const [done, snapshot] of whole.entries()) {
      const { name } = snapshot.manifest;
      const text = `reading ${snapshot.dir}`;
      context.progress({ step: 'vms.snapshot-digests', text, done, total: whole.length, unit: 'items' });
      for (const { path, sparseSha256 } of partsOf(snapshot)) {
        if (sparseSha256 === undefined) continue;
        const found = await sparseDigest(path, context.runner, signal).catch(errorText);
        signal.throwIfAborted();
        // Deleted a moment ago.
        if (!existsSync(snapshot.dir)) break;
        if (found === sparseSha256) continue;
        const fix = `banger vm snapshot delete ${name}`;
        problems.push(
          failure(`snapshot "${name}": ${path} has changed: ${found}, not ${sparseSha256}`, { fix }),
        );
      }
      const { state } = snapshot.manifest;
      const path = frozenPaths(snapshot.dir).state;
      if (state !== null && existsSync(snapshot.dir) && !(await isWholeState(path, state))) {
        const fix = `banger vm snapshot delete ${name}`;
        problems.push(failure(`snapshot "${name}": ${path} has changed`, { fix }));
      }
    }
    return orOk(
      problems,
      whole.length === 0
        ? 'nothing to read'
        : counted(whole.length, 'is as it was made', 'are as they were made'),
    );
  },
};

export const VM_SNAPSHOT_CHECKS: readonly Check<DoctorContext>[] = [snapshots, digests];
