/** What several checks want to know, found out once, when the first one asks. */

import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import type { DaemonHello } from '../../api/results/daemon.ts';
import type { Progress } from '../../api/contract.ts';
import type { StateVerified } from '../../api/results/state.ts';
import { BangerError } from '../../core/errors.ts';
import type { VmRecord } from '../../core/model/vm.ts';
import { type Config, DEFAULT_CONFIG, loadConfig } from '../../host/config.ts';
import type { BangerPaths } from '../../host/paths.ts';
import type { CommandRunner } from '../../host/runner.ts';
import { connect, type RpcClient } from '../../rpc/client.ts';
import { listImages } from '../../store/images.ts';
import { openReadOnlyView, type ReadOnlyView } from '../../store/read-only-view.ts';
import { selectOne } from '../../store/sql.ts';
import { listVms } from '../../store/vms.ts';
import { factsOf, type HostFacts } from './host-facts.ts';

export interface DoctorSetting {
  readonly paths: BangerPaths;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** As programs of banger compare them: HANDSHAKE_VERSION. */
  readonly version: string;
  /** Where the installation's own binaries for guest and host lie. */
  readonly guestBinDir: string;
  readonly runner: CommandRunner;
  readonly host: HostFacts;
}

export type DaemonState =
  | { readonly kind: 'absent' }
  /** A socket is there and nobody listens. */
  | { readonly kind: 'stale' }
  /** It listens and is of no use: silent, of another version, not for us. */
  | { readonly kind: 'unusable'; readonly error: BangerError }
  | { readonly kind: 'answers'; readonly client: RpcClient; readonly hello: DaemonHello };

export type StateAccess =
  | { readonly kind: 'none' }
  | { readonly kind: 'unreadable'; readonly error: unknown }
  | { readonly kind: 'view'; readonly view: ReadOnlyView }
  /** A daemon of our version has looked: its database is sound, as far as it can tell. */
  | { readonly kind: 'daemon'; readonly verified: StateVerified };

export interface ImageFacts {
  readonly id: string;
  readonly name: string;
  readonly artifactDir: string;
  /** Null when a daemon told of the image: it believes the manifest. */
  readonly rootfsPath: string | null;
  readonly kernelPath: string | null;
}

export interface VmFacts extends VmRecord {
  /** Of its VMM, when a daemon told. */
  readonly pid: number | null;
}

export interface Rows {
  /** A daemon looks after them, so rows may be ahead of what lies on disk for a moment. */
  readonly live: boolean;
  readonly vms: readonly VmFacts[];
  readonly images: readonly ImageFacts[];
}

const HELLO_TIMEOUT_MS = 2000;
const CALL_TIMEOUT_MS = 5000;

export class DoctorContext implements DoctorSetting {
  readonly paths: BangerPaths;
  /** For looking at its name and asking the view; never for opening. */
  readonly stateFile: string;
  readonly env: DoctorSetting['env'];
  readonly version: string;
  readonly guestBinDir: string;
  readonly runner: CommandRunner;
  readonly host: HostFacts;
  readonly deep: boolean;
  /** Of a check that takes long. */
  readonly progress: (progress: Progress) => void;
  #config: Promise<Config> | undefined;
  #daemon: Promise<DaemonState> | undefined;
  #verified: Promise<StateVerified | BangerError | undefined> | undefined;
  #view: Promise<StateAccess> | undefined;
  #rows: Promise<Rows | undefined> | undefined;

  constructor(setting: DoctorSetting, options: { deep: boolean; progress: (progress: Progress) => void }) {
    this.paths = setting.paths;
    this.stateFile = setting.paths.stateDb;
    this.env = setting.env;
    this.version = setting.version;
    this.guestBinDir = setting.guestBinDir;
    this.runner = setting.runner;
    this.host = setting.host;
    this.deep = options.deep;
    this.progress = options.progress;
  }

  /** @throws {BangerError} as loadConfig: a check says so, once */
  config(): Promise<Config> {
    this.#config ??= loadConfig(this.paths.configFile, this.env);
    return this.#config;
  }

  /** For checks that are about something else than the file. */
  async configOrDefault(): Promise<Config> {
    return await this.config().catch(() => DEFAULT_CONFIG);
  }

  daemon(): Promise<DaemonState> {
    this.#daemon ??= lookForDaemon(this);
    return this.#daemon;
  }

  /** What a daemon of our version says of its database; why it would not; undefined when there is none to ask. */
  verifiedByDaemon(): Promise<StateVerified | BangerError | undefined> {
    this.#verified ??= (async () => {
      const daemon = await this.daemon();
      if (daemon.kind !== 'answers') return undefined;
      const signal = AbortSignal.timeout(CALL_TIMEOUT_MS);
      try {
        return await daemon.client.call('state.verify', {}, { signal, cancelGraceMs: 1 });
      } catch (error) {
        return asBangerError(error);
      }
    })();
    return this.#verified;
  }

  /** A copy of the database that can be asked. Never the original. */
  view(): Promise<StateAccess> {
    this.#view ??= openView(this.stateFile);
    return this.#view;
  }

  /** The daemon's word where it can give it, else our own look. */
  async state(): Promise<StateAccess> {
    const verified = await this.verifiedByDaemon();
    if (verified === undefined || verified instanceof BangerError) return await this.view();
    return { kind: 'daemon', verified };
  }

  /** Undefined when the database cannot be read, which is another check's matter. No database: no rows. */
  rows(): Promise<Rows | undefined> {
    this.#rows ??= this.#findRows(() => this.view());
    return this.#rows;
  }

  /** Read anew while a daemon changes them; for what must be newer than a look at the disk. */
  async rowsNow(): Promise<Rows | undefined> {
    if ((await this.rows())?.live !== true) return await this.rows();
    const access: { now?: StateAccess } = {};
    try {
      return await this.#findRows(async () => (access.now = await openView(this.stateFile)));
    } finally {
      if (access.now !== undefined) closeView(access.now);
    }
  }

  async #findRows(view: () => Promise<StateAccess>): Promise<Rows | undefined> {
    const daemon = await this.daemon();
    if (daemon.kind === 'answers') {
      try {
        return await rowsOfDaemon(daemon.client);
      } catch {
        // One image without its files fails the whole list: the database knows the others.
      }
    }
    const live = daemon.kind === 'answers' || daemon.kind === 'unusable';
    const access = await view();
    if (access.kind === 'none') return { live, vms: [], images: [] };
    return access.kind === 'view' ? rowsOfView(access.view.database, live) : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const daemon = await this.#daemon?.catch(() => undefined);
    if (daemon?.kind === 'answers') daemon.client.close();
    const access = await this.#view;
    if (access !== undefined) closeView(access);
  }
}

async function openView(path: string): Promise<StateAccess> {
  try {
    const view = await openReadOnlyView(path);
    if (view === undefined) return { kind: 'none' };
    if (!isEmpty(view.database)) return { kind: 'view', view };
    view[Symbol.dispose]();
    return { kind: 'none' };
  } catch (error) {
    return { kind: 'unreadable', error };
  }
}

function closeView(access: StateAccess): void {
  if (access.kind === 'view') access.view[Symbol.dispose]();
}

/** Undefined when SQLite cannot read them; a row that we cannot is among them. */
function rowsOfView(database: DatabaseSync, live: boolean): Rows | undefined {
  try {
    const vms = listVms(database).map((vm) => ({ ...vm, pid: null }));
    return { live, vms, images: listImages(database) };
  } catch {
    return undefined;
  }
}

/** A file of no bytes, or a database without a table: nothing was ever kept in it. */
function isEmpty(database: DatabaseSync): boolean {
  return selectOne(database, 'SELECT 1 FROM sqlite_schema LIMIT 1') === undefined;
}

async function lookForDaemon({ paths: { socketPath }, version, host }: DoctorSetting): Promise<DaemonState> {
  let client: RpcClient | undefined;
  try {
    const facts = factsOf(socketPath);
    if (facts === undefined) return { kind: 'absent' };
    if (facts.uid !== host.uid && facts.uid !== 0) {
      throw new BangerError('permission', `${socketPath} belongs to uid ${facts.uid}`);
    }
    const signal = AbortSignal.timeout(HELLO_TIMEOUT_MS);
    client = await connect({ socketPath, version, signal, helloTimeoutMs: HELLO_TIMEOUT_MS });
    return { kind: 'answers', client, hello: await client.hello() };
  } catch (error) {
    client?.close();
    const code = ((error as BangerError).cause as NodeJS.ErrnoException | undefined)?.code;
    if (code === 'ENOENT') return { kind: 'absent' };
    if (code === 'ECONNREFUSED') return { kind: 'stale' };
    return { kind: 'unusable', error: asBangerError(error) };
  }
}

async function rowsOfDaemon(client: RpcClient): Promise<Rows> {
  const options = { signal: AbortSignal.timeout(CALL_TIMEOUT_MS), cancelGraceMs: 1 };
  const [vms, images] = await Promise.all([
    client.call('vm.list', {}, options),
    client.call('image.list', {}, options),
  ]);
  return {
    live: true,
    vms,
    images: images.map(({ id, name, artifactDir }) => ({
      id,
      name,
      artifactDir,
      rootfsPath: null,
      kernelPath: null,
    })),
  };
}

function asBangerError(error: unknown): BangerError {
  if (error instanceof BangerError) return error;
  return new BangerError('internal', error instanceof Error ? error.message : String(error), {
    cause: error,
  });
}

export function agentPath(setting: Pick<DoctorSetting, 'guestBinDir'>): string {
  return join(setting.guestBinDir, 'banger-agent');
}
