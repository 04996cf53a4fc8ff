/** The composition root: makes every service, gives each its ports, and takes it all down again. */

import { join } from 'node:path';
import type { DaemonStatus } from '../api/results/daemon.ts';
import { VERSION } from '../core/buildinfo.ts';
import { DRIVER_NAMES } from '../core/model/vm.ts';
import { vmPolicy } from '../core/policy/vm-policy.ts';
import { now } from '../host/clock.ts';
import type { Config } from '../host/config.ts';
import type { ConfigText } from '../host/config-show.ts';
import { findProgram } from '../host/find-program.ts';
import type { Log } from '../host/log.ts';
import type { BangerPaths } from '../host/paths.ts';
import { cpuCount, hostMemoryMib } from '../host/proc.ts';
import { createRunner } from '../host/runner.ts';
import type { RequestContext } from '../rpc/server-types.ts';
import { TicketBooth } from '../rpc/tickets.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import type { Store } from '../store/store.ts';
import { adoptingAll, createDriver, vmmProgramOf } from './drivers.ts';
import { NameServer } from './names/name-server.ts';
import { vmZone } from './names/vm-zone.ts';
import { PortWatch } from './port-watch.ts';
import { IdleKeeper } from './idle-keeper.ts';
import { Operations } from './operations.ts';
import { sweepScratch } from './sweep-scratch.ts';
import { DiskUseService } from './services/disk-use.ts';
import { ExecService } from './services/guests/exec-service.ts';
import { FileSync } from './services/guests/file-sync.ts';
import { HostGitIdentity } from './services/guests/git-identity.ts';
import { ImageService } from './services/images/image-service.ts';
import { ImageWarm } from './services/templates/image-warm.ts';
import { KernelService } from './services/images/kernel-service.ts';
import { PlatformService } from './services/images/platform-service.ts';
import { Standby } from './services/vms/standby.ts';
import { SshService } from './services/guests/ssh-service.ts';
import { StateService } from './services/state/state-service.ts';
import { TemplateCollector } from './services/templates/template-collector.ts';
import { makeTemplates } from './services/templates/templates.ts';
import type { TemplateService } from './services/templates/template-service.ts';
import { type Awake, awakeWhenUsed } from './services/vms/awake.ts';
import { PortForwards } from './services/ports/port-forwards.ts';
import { Transfers } from './services/guests/transfers.ts';
import { VmBoot } from './services/vms/vm-boot.ts';
import { VmCopy } from './services/guests/vm-copy.ts';
import { VmLifecycle } from './services/vms/vm-lifecycle.ts';
import { reconcile } from './services/vms/vm-reconcile.ts';
import { VmRegistry } from './services/vms/vm-registry.ts';
import { VmPause } from './services/vms/vm-pause.ts';
import { VmReservations } from './services/vms/vm-reservations.ts';
import { VmFork } from './services/snapshots/vm-fork.ts';
import { VmSleep } from './services/vms/vm-sleep.ts';
import { SnapshotNeeds } from './services/snapshots/snapshot-needs.ts';
import { SnapshotRestore } from './services/snapshots/snapshot-restore.ts';
import { SnapshotShelf } from './services/snapshots/snapshot-shelf.ts';
import { makeSnapshotFiles, type SnapshotFiles } from './services/snapshots/snapshot-files.ts';
import { VmSnapshots } from './services/snapshots/vm-snapshots.ts';
import { FileVerifier } from './services/images/file-verifier.ts';
import { VmSnapshotStore } from '../frozen/vm-snapshot-store.ts';
import { VmService } from './services/vms/vm-service.ts';
import { ToolBootstrap } from './services/guests/tool-bootstrap.ts';
import { KnownRepos } from '../workspace/known-repos.ts';
import { DriftWatch } from './services/workspaces/workspace-drift.ts';
import { WorkspacePrepare } from './services/workspaces/workspace-prepare.ts';
import { WorkspaceExport } from './services/workspaces/workspace-export.ts';
import { WorkspaceStatusService } from './services/workspaces/workspace-status.ts';
import { WorkspaceService } from './services/workspaces/workspace-service.ts';

/** As "banger state prune" without --keep. */
const KEEP_SNAPSHOTS = 10;
/** A client that hung up has this long until its VM is gone; then the next daemon removes it. */
const HANGUP_DELETE_TIMEOUT_MS = 120_000;

export interface DaemonServices {
  readonly vms: VmService;
  readonly snapshots: VmSnapshots;
  readonly idle: IdleKeeper;
  readonly snapshotRestore: SnapshotRestore;
  readonly snapshotFiles: SnapshotFiles;
  readonly sleep: VmSleep;
  readonly forks: VmFork;
  readonly registry: VmRegistry;
  readonly forwards: PortForwards;
  readonly portWatch: PortWatch;
  /** Undefined: names of VMs are not answered for. */
  readonly names: NameServer | undefined;
  readonly exec: ExecService;
  readonly ssh: SshService;
  readonly copies: VmCopy;
  readonly transfers: Transfers;
  readonly images: ImageService;
  readonly kernels: KernelService;
  readonly workspaces: WorkspaceService;
  readonly prepare: WorkspacePrepare;
  readonly startedWith: ConfigText;
  readonly toolBootstrap: ToolBootstrap;
  readonly workspaceExport: WorkspaceExport;
  readonly workspaceStatus: WorkspaceStatusService;
  readonly templates: TemplateService;
  readonly standby: Standby;
  readonly warm: ImageWarm;
  readonly disk: DiskUseService;
  /** Once it serves, and in the background. */
  readonly collectTemplates: () => void;
  readonly state: StateService;
  readonly operations: Operations;
  readonly tickets: TicketBooth;
  readonly status: () => DaemonStatus;
  readonly requestStop: () => void;
  /** Before serving: rows, processes and files of an earlier daemon. */
  readonly reconcile: () => Promise<void>;
  /** `vm run --rm`: the VM goes when the client that made it does. */
  readonly deleteOnHangup: (vmId: string, connection: RequestContext['connection']) => void;
}

export interface CompositionOptions {
  readonly paths: BangerPaths;
  readonly config: Config;
  /** What `config` was read of. */
  readonly configText: ConfigText;
  readonly store: Store;
  readonly log: Log;
  readonly version: string;
  /** Where the installation's own binaries for guest and host lie: banger-agent, tsc-khz. */
  readonly guestBinDir: string;
  /** The program `banger` of this installation. */
  readonly launcher: string;
  readonly requestStop: () => void;
}

export function compose(options: CompositionOptions): DaemonServices {
  const { paths, config, store, log } = options;
  const startedAt = now();
  const runner = createRunner();
  const operations = new Operations(now);
  const tickets = new TicketBooth();
  const { guestBinDir } = options;
  const driverDeps = { runner, guestBinDir, tscRateFile: join(paths.cacheDir, 'tsc-khz.json'), log };
  const others = DRIVER_NAMES.filter((name) => name !== config.driver);
  const driver = adoptingAll(
    createDriver(config, driverDeps),
    others.map((name) => createDriver(config, driverDeps, name)),
  );
  const platforms = new PlatformService({
    paths,
    driver,
    log,
    agentPath: join(guestBinDir, 'banger-agent'),
    vmmProgram: () => findProgram(vmmProgramOf(config)),
  });
  const workspaces = new WorkspaceService({ paths, runner });
  const { keys, templates } = makeTemplates({
    paths,
    driver,
    platforms,
    runner,
    log,
    maxBytes: config.templatesMaxBytes,
  });
  const collectTemplates = (): void =>
    templates.collectLater((template, signal) => collector.isUseful(template, signal));
  const kernels = new KernelService({ paths, runner, store, onBuilt: collectTemplates });
  const images = new ImageService({
    ...{ paths, runner, store, kernels },
    listTemplates: () => templates.list(),
    onBuilt: collectTemplates,
  });
  const collector = new TemplateCollector({ images, platforms, keys });
  const gitIdentity = new HostGitIdentity({ runner, log, env: process.env });
  const fileSync = new FileSync({ entries: config.fileSync, env: process.env, log });
  const boot = new VmBoot({ paths, driver, platforms, keys, templates, gitIdentity, fileSync, log });
  const policy = vmPolicy(config, { cpus: cpuCount(), memoryMib: hostMemoryMib() });
  const defaultImage = config.defaultImageName;
  const registry = new VmRegistry({ store, paths });
  const wakeForTcp: Awake = (vmId, signal) => sleep.awake(vmId, 'tcp', signal);
  const forwards = new PortForwards({
    awake: awakeWhenUsed(registry, wakeForTcp),
    log,
    ...(config.portsAutoForward ? { hostAddressOf: (vm) => registry.hostAddressOf(vm) } : {}),
  });
  const portWatch = new PortWatch({ registry, forwards, log });
  const names =
    config.dnsListen === null
      ? undefined
      : new NameServer({ ...config.dnsListen, zone: vmZone(store, registry), log });
  const transfers = new Transfers();
  const lifecycle = new VmLifecycle({
    ...{ registry, store, log, boot, images, workspaces, forwards, transfers },
    onRemoved: (vmId) => ssh.forget(vmId),
  });
  const reservations = new VmReservations(store);
  const snapshotStore = new VmSnapshotStore(paths.vmSnapshotsDir);
  const verifier = new FileVerifier(runner);
  const pause = new VmPause({ registry, driver });
  const sleep = new VmSleep({
    ...{ registry, lifecycle, pause, images, driver, runner, log },
    verifier,
  });
  const shelf = new SnapshotShelf(snapshotStore);
  const needs = new SnapshotNeeds({ images, platforms, keys, verifier });
  const snapshots = new VmSnapshots({
    ...{ shelf, needs, registry, lifecycle, sleep, transfers, verifier, runner, log },
    store: snapshotStore,
  });
  const snapshotRestore = new SnapshotRestore({ shelf, needs, registry, lifecycle });
  const snapshotFiles = makeSnapshotFiles({
    ...{ paths, snapshots, shelf, images, tickets, policy, runner },
    store: snapshotStore,
  });
  const forks = new VmFork({
    paths,
    registry,
    lifecycle,
    sleep,
    transfers,
    reservations,
    shelf,
    needs,
    workspaces,
    log,
  });
  const idle = new IdleKeeper({
    ...{ registry, lifecycle, pause, sleep, forwards, log },
    pauseAfterMs: config.idlePauseAfterMs,
    saveAfterMs: config.idleSaveAfterMs,
  });
  const standby = new Standby({ paths, driver, keys, templates, log, isEnabled: config.templatesStandby });
  const vms = new VmService({
    ...{
      registry,
      lifecycle,
      pause,
      sleep,
      store,
      reservations,
      runner,
      driver,
      images,
      platforms,
      keys,
      standby,
      workspaces,
      boot,
      policy,
      defaultImage,
    },
    natByDefault: config.natByDefault,
  });
  const warm = new ImageWarm({ images, platforms, templates, policy, defaultImage });
  const repos = new KnownRepos(process.env);
  const drift = new DriftWatch({ runner, repos, log });
  const workspaceExport = new WorkspaceExport({
    ...{ sleep, transfers, registry, runner, paths },
    streams: snapshotFiles.streams,
    binDir: join(guestBinDir, '..', '..', 'bin'),
  });
  const prepare = new WorkspacePrepare({
    ...{ workspaces, exports: workspaceExport, registry, sleep, store, transfers, paths, runner, repos, log },
  });
  const exec = new ExecService({ registry, sleep, tickets, portWatch, paths, drift, log });
  const copies = new VmCopy({ sleep, transfers, streams: snapshotFiles.streams });
  const ssh = new SshService({
    ...{ registry, sleep, exec, runner, paths },
    keyPath: config.sshKeyPath,
    launcher: options.launcher,
    env: process.env,
  });

  const state = new StateService({
    ...{ paths, now },
    source: store,
    migrations: MIGRATIONS,
    version: VERSION,
    env: process.env,
  });

  const status = (): DaemonStatus => ({
    version: options.version,
    pid: process.pid,
    startedAt,
    socketPath: paths.socketPath,
    stateDir: paths.stateDir,
    logPath: paths.logFile,
    rssBytes: process.memoryUsage.rss(),
    vmsRunning: registry.runningCount,
    vmsTotal: registry.rows().length,
    operations: operations.size,
    standby: standby.isReady,
    names: names?.status ?? null,
  });
  const deleteOnHangup: DaemonServices['deleteOnHangup'] = (vmId, connection) => {
    const remove = (): void => {
      vms
        .removeById(vmId, AbortSignal.timeout(HANGUP_DELETE_TIMEOUT_MS))
        .catch((error: unknown) => log.error({ vm: vmId, err: error }, 'could not remove an ephemeral VM'));
    };
    if (connection.closed.aborted) remove();
    else connection.closed.addEventListener('abort', remove, { once: true });
  };
  const { requestStop } = options;
  return {
    vms,
    snapshots,
    idle,
    snapshotRestore,
    snapshotFiles,
    sleep,
    forks,
    registry,
    forwards,
    portWatch,
    names,
    exec,
    ssh,
    copies,
    transfers,
    images,
    kernels,
    workspaces,
    prepare,
    startedWith: options.configText,
    toolBootstrap: new ToolBootstrap({ store, registry, lifecycle, sleep }),
    workspaceExport,
    workspaceStatus: new WorkspaceStatusService({
      ...{ registry, drift, runner, paths },
      exports: workspaceExport,
    }),
    templates,
    standby,
    warm,
    disk: new DiskUseService({
      paths,
      vms: () => registry.rows(),
      prunable: () => state.prune({ keep: KEEP_SNAPSHOTS, dryRun: true }),
    }),
    collectTemplates,
    state,
    operations,
    tickets,
    status,
    requestStop,
    deleteOnHangup,
    reconcile: async () => {
      await templates.settle();
      await snapshots.settle();
      await sweepScratch(paths.scratchDir, log);
      await reconcile({ paths, registry, lifecycle, driver, forwards, log });
    },
  };
}
