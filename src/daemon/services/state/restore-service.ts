/** Restoring the state in its place: only where no daemon runs, and so only in a process of its own. */

import { lstat } from 'node:fs/promises';
import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { StateRebuilt, StateRestored } from '../../../api/results/state.ts';
import type { ImageRecord } from '../../../core/model/image.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import { type BangerPaths, vmDir } from '../../../host/paths.ts';
import { readImageManifest } from '../../../images/manifests.ts';
import { bootstrap } from '../../../state/bootstrap.ts';
import type { BootstrapStep } from '../../../state/bootstrap-steps.ts';
import { ErrVerify } from '../../../state/errors.ts';
import { SnapshotCollection } from '../../../state/snapshot-collection.ts';
import { hexOf } from '../../../state/snapshot-names.ts';
import { listImages } from '../../../store/images.ts';
import type { Migration } from '../../../store/migrations/migration.ts';
import { migrate } from '../../../store/migrations/run.ts';
import { viewSource } from '../../../store/state-source.ts';
import { listVms } from '../../../store/vms.ts';
import type { OperationHandle } from '../../operations.ts';
import { rebuildState } from './rebuild.ts';

const MAX_MISSING = 1000;

/** What a person who waits is told. Steps that take no time are not in it. */
const STEP_TEXTS: Readonly<Partial<Record<BootstrapStep, string>>> = {
  verify: 'checking the snapshot',
  settle: 'looking at what is there',
  build: 'building the new database',
  migrate: 'bringing it to this version',
  check: 'checking it',
  seal: 'writing it to disk',
  fold: 'preparing the old database',
  keep_previous: 'keeping a copy of the old database',
  rename: 'putting the new one in its place',
};

export interface RestoreServiceDeps {
  readonly paths: BangerPaths;
  readonly migrations: readonly Migration[];
  /** Of the program, for manifests. */
  readonly version: string;
}

export class RestoreService {
  readonly #deps: RestoreServiceDeps;

  constructor(deps: RestoreServiceDeps) {
    this.#deps = deps;
  }

  /** @throws {ErrVerify} @throws {ErrNotFresh} @throws {BangerError} `not_found`, `in_use`; see state/bootstrap.ts */
  async bootstrap(
    params: CheckedParamsOf<'state.bootstrap'>,
    { signal, progress, about }: OperationHandle,
  ): Promise<StateRestored> {
    const { paths, migrations } = this.#deps;
    const { source, force, allowRollback } = params;
    progress({ step: 'read_snapshot', text: `reading ${source}` });
    const wanted = params.digest === undefined ? undefined : digestOf(params.digest);
    const collection = new SnapshotCollection(paths.snapshotsDir, migrations);
    const { data, manifestBytes, digest } = await collection.read(source);
    if (wanted !== undefined && digest !== undefined && wanted !== digest) {
      throw new ErrVerify('digest', `${source} is ${digest}, not ${wanted}`);
    }
    about(source);
    const restored = await bootstrap(
      data,
      manifestBytes,
      paths.stateDb,
      (database) => migrate(database, paths.stateDb, migrations, { keepCopy: false }),
      force,
      {
        ...{ migrations, allowRollback, source, signal },
        lockPath: paths.lockFile,
        holder: { pid: process.pid },
        digest: wanted ?? digest,
        onStep: (step) => {
          const text = STEP_TEXTS[step];
          if (text !== undefined) progress({ step, text });
        },
      },
    );
    if (restored.previousProblem !== null) {
      const text = `the database that was replaced could not be read: ${restored.previousProblem}`;
      progress({ step: 'done', text, announce: true });
    }
    const { migrationVersion, tableCounts, previous } = restored;
    return {
      digest: restored.digest,
      migrationVersion,
      tableCounts,
      previous,
      missing: await this.#missing(),
    };
  }

  /** @throws {BangerError} see rebuild.ts */
  async rebuild(params: CheckedParamsOf<'state.rebuild'>, operation: OperationHandle): Promise<StateRebuilt> {
    const { paths, version } = this.#deps;
    return await rebuildState({ paths, version, missing: () => this.#missing() }, params, operation);
  }

  /** What the rows name and this host does not have: a sentence each, with what to run. */
  async #missing(): Promise<readonly string[]> {
    const { paths } = this.#deps;
    const rows = await viewSource(paths.stateDb).read((database) => ({
      images: listImages(database),
      vms: listVms(database),
    }));
    const sentences: string[] = [];
    for (const image of rows?.images ?? []) sentences.push(...(await missingImage(image)));
    for (const vm of rows?.vms ?? []) sentences.push(...(await missingVm(paths, vm)));
    if (sentences.length <= MAX_MISSING) return sentences;
    return [...sentences.slice(0, MAX_MISSING), `… and ${sentences.length - MAX_MISSING} more`];
  }
}

/** @throws {BangerError} `bad_request` */
function digestOf(text: string): string {
  return `sha256:${hexOf(/^[0-9a-f]{64}$/.test(text) ? `sha256:${text}` : text)}`;
}

async function missingImage({ name, artifactDir }: ImageRecord): Promise<readonly string[]> {
  // Damaged counts as missing: the same command mends it.
  const manifest = await readImageManifest(artifactDir).catch(() => undefined);
  if (manifest !== undefined) return [];
  return [
    `image "${name}" has no files in ${artifactDir}: copy them there, or run: banger image build ${name}`,
  ];
}

async function missingVm(paths: BangerPaths, { id, name }: VmRecord): Promise<readonly string[]> {
  const dir = vmDir(paths, id);
  const stat = await lstat(dir).catch(() => undefined);
  if (stat?.isDirectory() === true) return [];
  return [`VM "${name}" has no disk: copy its directory to ${dir}, or run: banger vm delete ${name}`];
}
