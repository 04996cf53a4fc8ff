/** Snapshots of the state: taking, checking, keeping, comparing them. The database is only ever read. */

import type { DatabaseSync } from 'node:sqlite';
import type { CheckedParamsOf } from '../../../api/contract.ts';
import type {
  SnapshotView,
  StateDiff,
  StateExported,
  StatePushed,
  StateVerified,
} from '../../../api/results/state.ts';
import { BangerError } from '../../../core/errors.ts';
import type { SnapshotEncoding } from '../../../core/model/snapshot.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import { diffStates, type StateContent } from '../../../state/diff.ts';
import { type ExportOptions, exportState, type Snapshot } from '../../../state/export.ts';
import { SnapshotCollection } from '../../../state/snapshot-collection.ts';
import { LATEST, parseUserRefName } from '../../../state/snapshot-names.ts';
import { writeSnapshotTo } from '../../../state/snapshot-output.ts';
import { schemaAt } from '../../../state/state-schema.ts';
import { type VerifiedSnapshot, verify } from '../../../state/verify.ts';
import type { Migration } from '../../../store/migrations/migration.ts';
import type { StateSource } from '../../../store/state-source.ts';
import type { OperationHandle } from '../../operations.ts';
import { assertStateNotLost } from '../../lost-state.ts';
import { explainOldSchema, verifyDatabase, verifyRestorable } from './state-verify.ts';
import { snapshotView } from './state-view.ts';

export interface StateServiceDeps {
  readonly paths: BangerPaths;
  /** The daemon's own connection, or a view of the file. */
  readonly source: StateSource;
  readonly migrations: readonly Migration[];
  /** Of the program, for manifests. */
  readonly version: string;
  /** RFC 3339. */
  readonly now: () => string;
  /** For registries: logins, proxies. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

export class StateService {
  readonly #deps: StateServiceDeps;
  readonly #collection: SnapshotCollection;

  constructor(deps: StateServiceDeps) {
    this.#deps = deps;
    this.#collection = new SnapshotCollection(deps.paths.snapshotsDir, deps.migrations);
  }

  /**
   * Takes a snapshot into the collection, where `latest` points to it from then on.
   * @throws {BangerError} `not_found` (there is no database), `already_exists` (something else lies at `output`); what
   *   exportState, a view and the collection throw
   */
  async export(params: CheckedParamsOf<'state.export'>, operation: OperationHandle): Promise<StateExported> {
    if (params.ref !== undefined) parseUserRefName(params.ref);
    operation.progress({ step: 'read_state', text: 'reading the state' });
    const snapshot = await this.#read((database) => exportState(database, this.#options(params.encoding)));
    assertNotCancelled(operation);
    operation.about(snapshot.manifest.checksum);
    operation.progress({ step: 'write_snapshot', text: 'writing the snapshot' });
    // First: when that fails, `latest` has not moved.
    if (params.output !== undefined) await writeSnapshotTo(params.output, snapshot);
    const refs = params.ref === undefined ? [LATEST] : [LATEST, params.ref];
    const { digest, existed } = await this.#collection.put(snapshot, refs);
    return { ...(await this.#view(digest)), existed };
  }

  /** Of a snapshot, or of the database. @throws {ErrVerify} @throws {BangerError} as state-verify.ts says */
  async verify(params: CheckedParamsOf<'state.verify'>, operation: OperationHandle): Promise<StateVerified> {
    const { migrations, paths } = this.#deps;
    if (params.source === undefined) {
      operation.progress({ step: 'verify', text: `checking ${paths.stateDb}` });
      return await this.#read((database) =>
        verifyDatabase(paths.stateDb, database, this.#options('identity')),
      );
    }
    operation.progress({ step: 'read_snapshot', text: `reading ${params.source}` });
    const verified = await this.#verified(params.source);
    assertNotCancelled(operation);
    operation.progress({ step: 'verify', text: `restoring ${params.source} on trial` });
    return verifyRestorable(params.source, verified, migrations);
  }

  /** Newest first, damaged ones among them. */
  async list(): Promise<readonly SnapshotView[]> {
    return (await this.#collection.list()).map(snapshotView);
  }

  /** What was deleted, or would be. */
  async prune(params: CheckedParamsOf<'state.prune'>): Promise<readonly SnapshotView[]> {
    return (await this.#collection.prune(params)).map(snapshotView);
  }

  /** @throws {ErrVerify} before anything is sent @throws {BangerError} `not_found`, what RegistryClient throws */
  async push(params: CheckedParamsOf<'state.push'>, operation: OperationHandle): Promise<StatePushed> {
    const found = await this.#found(params.source);
    // Loaded only now: few ever use a registry.
    const { pushToRegistry } = await import('./state-registry.ts');
    const { migrations, env } = this.#deps;
    return await pushToRegistry(found, params, { migrations, env }, operation);
  }

  /** Into the collection. @throws {ErrVerify} @throws {BangerError} `usage`, what RegistryClient throws */
  async pull(params: CheckedParamsOf<'state.pull'>, operation: OperationHandle): Promise<SnapshotView> {
    if (params.ref !== undefined) parseUserRefName(params.ref);
    const { pullFromRegistry } = await import('./state-registry.ts');
    const { migrations, env } = this.#deps;
    const pulled = await pullFromRegistry(params, { migrations, env }, operation);
    const { digest } = await this.#collection.put(pulled, params.ref === undefined ? [] : [params.ref]);
    return await this.#view(digest);
  }

  async diff(params: CheckedParamsOf<'state.diff'>, operation: OperationHandle): Promise<StateDiff> {
    operation.progress({ step: 'read_snapshot', text: `reading ${params.from}` });
    const from = await this.#content(params.from);
    assertNotCancelled(operation);
    operation.progress({ step: 'read_state', text: `reading ${params.to ?? 'the state'}` });
    const to = await this.#content(params.to);
    assertNotCancelled(operation);
    operation.progress({ step: 'compare', text: 'comparing' });
    return { from: from.digest, to: to.digest, ...diffStates(from, to) };
  }

  /** Of the database when there is no source. */
  async #content(source: string | undefined): Promise<StateContent & { readonly digest: string }> {
    if (source !== undefined) {
      const { payload, schema, manifest } = await this.#verified(source);
      return { payload, schema, digest: manifest.checksum };
    }
    const snapshot = await this.#read((database) => exportState(database, this.#options('identity')));
    const schema = schemaAt(this.#deps.migrations, snapshot.manifest.db_migration_version);
    return { payload: snapshot.data, schema, digest: snapshot.manifest.checksum };
  }

  async #verified(source: string): Promise<VerifiedSnapshot> {
    const { data, manifestBytes, digest } = await this.#found(source);
    const { migrations } = this.#deps;
    return verify(data, manifestBytes, { migrations, ...(digest !== undefined && { digest }) });
  }

  async #found(source: string) {
    try {
      return await this.#collection.read(source);
    } catch (error) {
      if (source !== LATEST || !(error instanceof BangerError) || error.code !== 'not_found') throw error;
      throw new BangerError('not_found', 'there is no snapshot yet', {
        hint: 'banger state export',
        cause: error,
      });
    }
  }

  async #view(digest: string): Promise<SnapshotView> {
    const entry = (await this.#collection.list()).find((one) => one.digest === digest);
    if (entry !== undefined) return snapshotView(entry);
    throw new BangerError('not_found', `${digest} was deleted as soon as it was there`, {
      hint: 'is "banger state prune" running?',
    });
  }

  #options(encoding: SnapshotEncoding): ExportOptions {
    const { migrations, version, now } = this.#deps;
    return { migrations, version, encoding, createdAt: now() };
  }

  async #read<T extends Snapshot | StateVerified>(work: (database: DatabaseSync) => T): Promise<T> {
    const { source, migrations, paths } = this.#deps;
    const result = await source.read((database) => {
      if (isEmpty(database)) return undefined;
      try {
        return work(database);
      } catch (error) {
        throw explainOldSchema(database, migrations, error);
      }
    });
    if (result !== undefined) return result;
    // With VMs there it is no new one: what the daemon says of it then.
    await assertStateNotLost(paths);
    throw new BangerError('not_found', `there is no state yet: ${paths.stateDb} is missing or empty`, {
      hint: 'banger daemon start makes an empty one; banger state bootstrap SNAPSHOT restores one',
    });
  }
}

/** A file of 0 bytes is a database without anything: what a crash leaves that met the making of it. */
function isEmpty(database: DatabaseSync): boolean {
  return database.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get() === undefined;
}

function assertNotCancelled({ signal }: OperationHandle): void {
  if (!signal.aborted) return;
  const { reason } = signal;
  throw reason instanceof BangerError ? reason : new BangerError('cancelled', 'cancelled');
}
