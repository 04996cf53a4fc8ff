/** A daemon's life: lock, store, reconcile, serve, and leave every VM running when it goes. */

import { mkdirSync } from 'node:fs';
import { VERSION } from '../core/buildinfo.ts';
import { now } from '../host/clock.ts';
import { configOf } from '../host/config-show.ts';
import { acquireInstanceLock } from '../host/instance-lock.ts';
import { createLogger } from '../host/log.ts';
import { type BangerPaths, ensurePrivateDir } from '../host/paths.ts';
import { listen } from '../rpc/server.ts';
import { settleRestore } from '../state/settle.ts';
import { SnapshotCollection } from '../state/snapshot-collection.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { openStore, type Store } from '../store/store.ts';
import { MigrationSnapshot, startPeriodicSnapshots } from './auto-snapshots.ts';
import { startBackground } from './background.ts';
import { compose, type DaemonServices } from './composition.ts';
import { startIdleRounds } from './idle-rounds.ts';
import { createHandlers } from './handlers.ts';
import { readConfigText } from './config-handlers.ts';
import { assertStateNotLost } from './lost-state.ts';

export interface DaemonOptions {
  readonly paths: BangerPaths;
  readonly version: string;
  readonly guestBinDir: string;
  /** The program `banger` of this installation. */
  readonly launcher: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborting stops the daemon in good order. */
  readonly signal: AbortSignal;
}

/**
 * Serves until it is stopped.
 * @throws {BangerError} `in_use` (another daemon has this state directory), `invalid_state` (its database is lost, or a
 *   restore of it cannot be settled), a bad config, an unusable state directory
 */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { paths, version } = options;
  makeDirectories(paths);
  using _lock = await acquireInstanceLock(paths.lockFile, { pid: process.pid, socketPath: paths.socketPath });
  const configText = await readConfigText(paths.configFile, options.env);
  const config = configOf(configText);
  const log = createLogger({ level: config.logLevel, file: paths.logFile });
  const settled = await settleRestore(paths.stateDb);
  if (settled !== 'none') log.warn({ settled }, 'settled a restore that did not come to its end');
  await assertStateNotLost(paths);
  const collection = new SnapshotCollection(paths.snapshotsDir, MIGRATIONS);
  using store = await openMigrated(paths, new MigrationSnapshot({ collection, log, version: VERSION }));
  const stop = new AbortController();
  const stopped = AbortSignal.any([stop.signal, options.signal]);
  const services = compose({
    paths,
    config,
    configText,
    store,
    log,
    version,
    guestBinDir: options.guestBinDir,
    launcher: options.launcher,
    requestStop: () => stop.abort(),
  });
  await services.reconcile();
  const { socketPath, streamSocketPath } = paths;
  const { tickets } = services;
  const handlers = createHandlers(services);
  const server = await listen({ socketPath, streamSocketPath, handlers, tickets, log, version });
  services.collectTemplates();
  // Nobody waits for the port, or goes without a daemon because it is taken.
  void services.names?.start();
  if (config.portsAutoForward) services.portWatch.start();
  const stopBackground = startBackground({
    vms: services.vms,
    registry: services.registry,
    forwards: services.forwards,
    log,
    intervalMs: config.statsPollIntervalMs,
    stopStaleAfterMs: config.autoStopStaleAfterMs,
  });
  const stopIdle = startIdleRounds(services.idle, config, log);
  const intervalMs = config.stateSnapshotIntervalMs;
  const stopSnapshots = startPeriodicSnapshots({
    collection,
    source: store,
    log,
    version: VERSION,
    intervalMs,
  });
  log.info({ version, since: now() }, 'serving');
  await aborted(stopped);
  log.info({}, 'stopping');
  stopBackground();
  await stopIdle();
  await stopSnapshots();
  await leave(services, server);
  log.info({}, 'stopped');
}

async function openMigrated(paths: BangerPaths, before: MigrationSnapshot): Promise<Store> {
  try {
    return openStore(paths.stateDb, { beforeFirst: before.beforeFirst });
  } finally {
    await before.keep();
  }
}

async function leave(
  services: DaemonServices,
  server: { close(options?: { graceMs?: number }): Promise<void> },
): Promise<void> {
  services.names?.close();
  services.portWatch.stop();
  services.operations.cancelAll();
  await server.close();
  await services.standby.stop();
  await services.templates.stop();
  services.forwards.closeAll();
  await services.transfers.finish();
  await services.sleep.settle();
  await services.vms.release();
}

function makeDirectories(paths: BangerPaths): void {
  for (const dir of [paths.stateDir, paths.cacheDir, paths.runtimeDir]) ensurePrivateDir(dir);
  for (const dir of [
    paths.vmsDir,
    paths.imagesDir,
    paths.kernelsDir,
    paths.initramfsDir,
    paths.vmRuntimesDir,
    paths.scratchDir,
    paths.templatesDir,
    paths.vmSnapshotsDir,
  ]) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => resolve(), { once: true });
  await promise;
}
