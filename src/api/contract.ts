/**
 * The RPC contract: every method with its parameters, result and whether it reports progress.
 * Client and server are typed from here; docs/rpc.md lists the same methods, and a test holds the two together.
 */

import type { z } from 'zod';
import type { ConfigChecked, ConfigShown } from '../core/model/config.ts';
import type { ImageManifest, KernelManifest } from '../core/model/image.ts';
import type { SnapshotEncoding } from '../core/model/snapshot.ts';
import type { Accelerator, VmRecord } from '../core/model/vm.ts';
import type { WorkspaceMode } from '../core/model/workspace.ts';
import type { ToolingPlan } from '../core/toolingplan/model.ts';
import type { paramsSchemas } from './schemas.ts';

export type Method = keyof typeof paramsSchemas;
/** What a caller writes: fields with a default may be left out. */
export type ParamsOf<M extends Method> = z.input<(typeof paramsSchemas)[M]>;
/** What a handler gets: defaults filled in. */
export type CheckedParamsOf<M extends Method> = z.output<(typeof paramsSchemas)[M]>;
export type ResultOf<M extends Method> = Results[M];

/** One `$/progress` value of a running request. */
export interface Progress {
  /** Stable name of the step (`resolve_image`, `boot` …); a change of step ends the one before. */
  readonly step: string;
  /** For people: what is being done, to what. */
  readonly text: string;
  readonly done?: number;
  readonly total?: number;
  readonly unit?: 'bytes' | 'items';
  /** Worth a line of its own wherever it is shown: the beginning of something that takes minutes. */
  readonly announce?: boolean;
}

/** A second connection presents `ticket` on the stream socket and then carries raw frames. Valid once, for seconds. */
export interface StreamTicket {
  /** 64 hex digits. */
  readonly ticket: string;
  readonly streamSocketPath: string;
}

/** How far a repository has gone on since a VM's copy was made of it. */
export interface WorkspaceDrift {
  /** Commits: what the copy was made from, and what would be shipped now. */
  readonly recorded: string;
  readonly current: string;
  /** First line of the current commit's message. */
  readonly subject: string;
  /** Commits that the copy lacks. Null: the repository does not know the recorded commit any more. */
  readonly behind: number | null;
  /** Commits of the copy that are not in the current history: it was rewritten, or is another branch's. */
  readonly ahead: number | null;
}

export interface ExecTicket extends StreamTicket {
  /** Null where nobody asked. */
  readonly drift: WorkspaceDrift | null;
}

export interface DaemonHello {
  readonly version: string;
  readonly pid: number;
}

export interface DaemonStatus extends DaemonHello {
  readonly startedAt: string;
  readonly socketPath: string;
  readonly stateDir: string;
  readonly logPath: string;
  readonly rssBytes: number;
  readonly vmsRunning: number;
  readonly vmsTotal: number;
  readonly operations: number;
  /** A machine waits, paused, for the next VM of its kind: docs/templates.md. */
  readonly standby: boolean;
  /** Of the server that answers for names of VMs; null: the settings want none. */
  readonly names: NameServerStatus | null;
}

export interface NameServerStatus {
  /** `127.0.0.1:42069`. */
  readonly address: string;
  readonly state: 'starting' | 'listening' | 'failed';
  /** Why nobody is answered. */
  readonly problem: string | null;
}

export interface OperationSummary {
  readonly id: string;
  readonly method: string;
  readonly startedAt: string;
  /** The VM or image it works on, once known. */
  readonly subject: string | null;
  readonly progress: Progress | null;
}

/** A VM as clients see it: the row plus what is true now. */
export interface VmView extends VmRecord {
  /** Its own address on this host, where the ports of its programs appear; null: it has none (its row is damaged). */
  readonly hostAddress: string | null;
  readonly pid: number | null;
  readonly vmDir: string;
}

export interface VmDetail extends VmView {
  /** The VMM's whole command line: of the running process, or of the next start. */
  readonly argv: readonly string[];
  readonly consoleLogPath: string;
  readonly vmmLogPath: string;
}

/** Facts about the copy that `vm run PATH` made. */
export interface WorkspaceReport {
  readonly guestPath: string;
  readonly sourcePath: string;
  readonly headCommit: string;
  readonly branch: string | null;
  readonly files: number;
  readonly bytes: number;
  /** Untracked, not ignored, and left behind. */
  readonly untrackedLeft: number;
}

export interface VmCreated {
  readonly vm: VmView;
  readonly workspace: WorkspaceReport | null;
  /** What that repository asks for; nothing of it is installed yet: `vm.bootstrap`. */
  readonly tools: ToolingPlan | null;
  /** From the request to the guest's readiness. */
  readonly elapsedMs: number;
}

export interface ToolsInstalled {
  /** Its absolute path in the guest; null: it has none, and only files of other tools asked. */
  readonly mise: string | null;
  /** In the guest. */
  readonly logPath: string;
}

export interface VmForked {
  readonly vms: readonly VmView[];
  /** How long the source stood still. */
  readonly pauseMs: number;
  /** From the request until all of them can be used. */
  readonly elapsedMs: number;
}

/** A path that differs between two states of a workspace. */
export interface WorkspaceChange {
  /** As `displayPath` writes it. */
  readonly path: string;
  readonly kind: 'added' | 'modified' | 'deleted' | 'type_changed';
  /** Null for a binary file, and where lines are not counted. */
  readonly insertions: number | null;
  readonly deletions: number | null;
}

export type FileChange = 'added' | 'modified' | 'deleted';

/** A file that was changed since it was shipped; null: not on that side. */
export interface WorkspaceFileStatus {
  /** As `displayPath` writes it. */
  readonly path: string;
  readonly here: FileChange | null;
  readonly there: FileChange | null;
}

export interface WorkspaceStatus {
  readonly vm: string;
  readonly guestPath: string;
  readonly sourcePath: string;
  readonly headCommit: string;
  readonly mode: WorkspaceMode;
  readonly readOnly: boolean;
  readonly preparedAt: string;
  /** Null: the repository is at the commit that was shipped, or cannot be looked at. */
  readonly drift: WorkspaceDrift | null;
  /** False: what was shipped is not known any more, so changes here are not. */
  readonly knowsHere: boolean;
  /** Made in the guest. */
  readonly commits: number;
  /** By path, at most the first 10,000. */
  readonly files: readonly WorkspaceFileStatus[];
  readonly total: number;
  /** Repositories inside the copy, which are not part of it. */
  readonly nested: readonly string[];
}

/** The guest's changes as a patch. */
export interface WorkspaceExported {
  readonly vm: string;
  /** The file that was written; null: a stream, or nothing. */
  readonly path: string | null;
  /** Of the patch; 0 when only numbers were asked for. */
  readonly bytes: number;
  /** The commit it applies to. */
  readonly base: string;
  /** Commits made in the guest since then: what they changed is in it. */
  readonly commits: number;
  /** The first 10,000 of them. */
  readonly changes: readonly WorkspaceChange[];
  readonly files: number;
  readonly insertions: number;
  readonly deletions: number;
  /** It holds changes that the host had not committed when the copy was made. */
  readonly includesShipped: boolean;
  /** Repositories inside the guest's, which are left out. */
  readonly nested: readonly string[];
}

/** The guest's changes, merged onto files of the host. */
export interface WorkspaceApplied {
  readonly vm: string;
  /** Top of the working tree they were merged onto. */
  readonly dir: string;
  /** False: nothing was written, because of conflicts or because it was only tried. */
  readonly applied: boolean;
  /** What was written there, or would be; the first 10,000. */
  readonly changes: readonly WorkspaceChange[];
  readonly files: number;
  readonly conflicts: readonly { readonly path: string; readonly why: string }[];
  readonly nested: readonly string[];
}

/** The guest's commits as a branch of a host repository. */
export interface WorkspaceFetched {
  readonly vm: string;
  readonly dir: string;
  readonly branch: string;
  /** The branch's name in the guest; null: its HEAD. */
  readonly guestBranch: string | null;
  readonly commit: string;
  /** Where the branch was; null: it is new. */
  readonly oldCommit: string | null;
  /** Commits that it has and the commit the copy was made from does not. */
  readonly commits: number;
  /** Files that differ from the guest's HEAD, and so are not in it. */
  readonly uncommitted: number;
}

/** A moment of a VM that is kept. */
export interface VmSnapshotView {
  readonly id: string;
  readonly name: string;
  /** As it was called then; `exists`: there is a VM of that id. */
  readonly vm: { readonly id: string; readonly name: string; readonly exists: boolean };
  /** Came from a file: VMs can be made of it, none can be put back to it. */
  readonly imported: boolean;
  readonly createdAt: string;
  readonly imageName: string;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly diskSizeBytes: number;
  /** False: the disk only. */
  readonly withMemory: boolean;
  /** Blocks on the host's disk. */
  readonly allocatedBytes: number;
  readonly dir: string;
}

export interface VmSnapshotDetail extends VmSnapshotView {
  /** What it is tied to: VMM, kernel, CPU model … by the names people know. Empty for a snapshot of the disk only. */
  readonly needs: Readonly<Record<string, string>>;
  /** Why it cannot be used now; null: it can. */
  readonly problem: string | null;
}

/** `name`: the id of one that was damaged. */
export interface VmSnapshotDeleted {
  readonly id: string;
  readonly name: string;
}

export interface VmSnapshotTaken {
  readonly snapshot: VmSnapshotView;
  /** How long the VM stood still. */
  readonly pauseMs: number;
}

export interface VmSnapshotExported {
  readonly snapshot: VmSnapshotView;
  /** Null: it went to a stream. */
  readonly path: string | null;
  /** Of what was written. */
  readonly bytes: number;
  /** Of what is in the snapshot's files and not zero. */
  readonly dataBytes: number;
}

export interface VmSnapshotList {
  readonly snapshots: readonly VmSnapshotView[];
  readonly broken: readonly { readonly id: string; readonly dir: string; readonly problem: string }[];
}

export interface WorkspacePlan extends WorkspaceReport {
  readonly mode: WorkspaceMode;
  readonly tools: ToolingPlan;
  /** Paths relative to the repository's root, as git orders them. Not UTF-8: written with \xNN escapes. */
  readonly paths: readonly string[];
}

/** What `workspace.prepare` did, or would do. */
export interface WorkspacePrepared {
  readonly vm: string;
  readonly guestPath: string;
  readonly sourcePath: string;
  /** `created`: there was no copy before. */
  readonly outcome: 'created' | 'updated' | 'unchanged';
  readonly headCommit: string;
  /** What it was before; null: there was no copy. */
  readonly previousHead: string | null;
  /** Files written and deleted in the guest, at most the first 1000 by name; all of them are counted. */
  readonly files: number;
  readonly deleted: number;
  readonly paths: readonly string[];
  /** Untracked, not ignored, and left behind; null: not looked at. */
  readonly untrackedLeft: number | null;
  readonly elapsedMs: number;
}

/** A port that is listened on in the guest, or published and not listened on. */
export interface PortEntry {
  readonly protocol: 'tcp' | 'udp';
  /** Null: nothing listens there that a published port would reach. */
  readonly address: string | null;
  readonly port: number;
  readonly pid: number | null;
  readonly process: string | null;
  /** `<name>.vm:port`. */
  readonly endpoint: string;
  /** Where on the host it is published: `127.0.0.1:8080`. */
  readonly published: readonly string[];
  /** Where on the host it appears by itself, on the VM's own address: `127.107.251.2:8000`. Null: nowhere. */
  readonly forwarded: string | null;
  /** Why it does not, although it could. */
  readonly problem: string | null;
  /** Of a web server, going by the number: `http://dev.vm:8000/`. For a host that knows names of VMs. */
  readonly url: string | null;
}

export interface VmHealth {
  readonly reachable: true;
  readonly roundTripMs: number;
  readonly uptimeMs: number;
  readonly bootId: string;
  readonly memoryTotalKib: number;
  readonly memoryAvailableKib: number;
  readonly load1: number;
  readonly processes: number;
  readonly diskTotalBytes: number;
  readonly diskFreeBytes: number;
  readonly init: string;
}

/** What an ssh client of this host uses: its files are there now. */
export interface SshSetup {
  /** ssh_config(5) for hosts NAME.vm; `config` is what is in it. */
  readonly configFile: string;
  readonly config: string;
  readonly identityFile: string;
  readonly knownHostsFile: string;
  /** `<name>.vm` of the VM that was asked for. */
  readonly host: string | null;
}

/** A frozen, booted guest that VMs of one shape start from. */
export interface TemplateView {
  /** The first 12 hex digits. */
  readonly key: string;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly accelerator: Accelerator;
  readonly machine: string;
  /** Blocks on the disk. */
  readonly allocatedBytes: number;
  readonly createdAt: string;
  /** When a VM was last started from it; when it was made, if none was. */
  readonly usedAt: string;
}

export interface ImageWarmed {
  readonly image: string;
  /** It was there already. */
  readonly existed: boolean;
  readonly template: TemplateView;
  readonly elapsedMs: number;
}

export interface ImageView extends ImageManifest {
  /** Last used first. */
  readonly templates: readonly TemplateView[];
  readonly id: string;
  readonly artifactDir: string;
  readonly createdAt: string;
  readonly usedBy: readonly string[];
}

/** An image whose files cannot be used: its row is there all the same, and VMs may stand on it. */
export interface BrokenImageView {
  readonly name: string;
  readonly id: string;
  readonly artifactDir: string;
  readonly createdAt: string;
  readonly usedBy: readonly string[];
  /** What is wrong, and what to run. */
  readonly problem: string;
}

export type ImageEntry = (ImageView & { readonly problem: null }) | BrokenImageView;

/** A kernel, with where it lies. */
export interface KernelView extends KernelManifest {
  readonly dir: string;
  readonly usedBy: readonly string[];
}

/** What one kind of thing takes on the disk. */
export interface DiskUseRow {
  /** Stable: `images`, `kernels`, `templates` … */
  readonly kind: string;
  readonly count: number;
  /** Blocks on the disk. */
  readonly allocatedBytes: number;
  /** What `reclaim` would free of that. */
  readonly reclaimableBytes: number;
  /** What to run or change; null when there is nothing to reclaim. */
  readonly reclaim: string | null;
}

export interface DiskUse {
  readonly stateDir: string;
  readonly cacheDir: string;
  readonly rows: readonly DiskUseRow[];
  readonly allocatedBytes: number;
  readonly reclaimableBytes: number;
  /** More files than are counted: the figures are too small. */
  readonly truncated: boolean;
}

/** Worst last. */
export const DOCTOR_SEVERITIES = ['ok', 'info', 'warning', 'failure'] as const;
export type DoctorSeverity = (typeof DOCTOR_SEVERITIES)[number];
export const DOCTOR_GROUPS = ['host', 'daemon', 'state', 'images', 'vms', 'config', 'security'] as const;
export type DoctorGroup = (typeof DOCTOR_GROUPS)[number];

/** What one check found. */
export interface DoctorFinding {
  /** `group.check`, stable: `host.accelerator`. A check that looks at many things has one finding for each that is wrong. */
  readonly id: string;
  readonly group: DoctorGroup;
  readonly title: string;
  readonly severity: DoctorSeverity;
  /** A sentence: what is, with the figures. */
  readonly found: string;
  /** What to run or change; null when nothing needs to be done. */
  readonly fix: string | null;
  /** Whether `doctor --fix` does that by itself. */
  readonly fixable: boolean;
  readonly durationMs: number;
}

export interface DoctorReport {
  readonly worst: DoctorSeverity;
  readonly findings: readonly DoctorFinding[];
}

/** One thing `doctor --fix` did, would do, or could not do. */
export interface DoctorFix {
  /** Of the finding it mends. */
  readonly id: string;
  /** `chmod 600 /…/state.db` */
  readonly what: string;
  /** Null when it was only asked what would be done. */
  readonly done: boolean | null;
  readonly error: string | null;
}

/** A snapshot in the local collection, or just made, pulled or verified. */
export interface SnapshotView {
  /** `sha256:<64 hex>`. */
  readonly digest: string;
  /** Names that point to it: `latest`, a date, one the user gave. */
  readonly refs: readonly string[];
  /** Path of the payload. */
  readonly path: string;
  readonly bytes: number;
  readonly encodedBytes: number;
  readonly encoding: SnapshotEncoding;
  readonly createdAt: string;
  readonly sourceVersion: string;
  readonly migrationVersion: number;
  /** Decimal digits of a u64. */
  readonly controlVersion: string;
  readonly tableCounts: Readonly<Record<string, number>>;
  /** Why it cannot be restored, where looking at it showed that; null otherwise. */
  readonly problem: string | null;
}

export interface StateExported extends SnapshotView {
  /** The same state had been exported before. */
  readonly existed: boolean;
}

/** What `state verify` found out about a snapshot, or about the database (then `digest` is what an export would have). */
export interface StateVerified {
  readonly subject: string;
  readonly digest: string;
  readonly migrationVersion: number;
  readonly controlVersion: string;
  readonly tableCounts: Readonly<Record<string, number>>;
  /** What was checked, in order, in words for people. */
  readonly checks: readonly string[];
}

export interface StateRestored {
  readonly digest: string;
  readonly migrationVersion: number;
  readonly tableCounts: Readonly<Record<string, number>>;
  /** Where the database that was replaced is kept; null when there was none. */
  readonly previous: string | null;
  /** Things its rows name that are not on this host: one sentence each, with what to run. */
  readonly missing: readonly string[];
}

export interface StatePushed {
  readonly repository: string;
  /** Of the OCI manifest: what a pull takes. */
  readonly digest: string;
  readonly snapshot: string;
  readonly tag: string | null;
  /** Blobs the registry did not have. */
  readonly uploadedBytes: number;
}

export interface StateDiffRow {
  readonly table: string;
  /** The row's name where it has one, else its key. */
  readonly row: string;
  readonly change: 'added' | 'removed' | 'changed';
  /** Only of `changed`. Long values are cut. */
  readonly columns: readonly { readonly column: string; readonly from: string; readonly to: string }[];
}

export interface StateDiff {
  readonly from: string;
  readonly to: string;
  readonly rows: readonly StateDiffRow[];
  /** More rows differ than are listed. */
  readonly truncated: boolean;
}

export interface StateRebuilt {
  /** Rows found in VM and image directories that the database lacks, and were added (or would be). */
  readonly added: readonly {
    readonly kind: 'image' | 'vm';
    readonly name: string;
    readonly id: string;
    /** What had to be changed so that it fits beside the other rows (a taken name or address); null: nothing. */
    readonly note: string | null;
  }[];
  /** Directories that could not be used, and why. */
  readonly skipped: readonly { readonly path: string; readonly why: string }[];
  /** Null when nothing was to be done, or with dryRun. */
  readonly restored: StateRestored | null;
}

/** A kernel's directory whose manifest cannot be read. */
export interface BrokenKernelView {
  readonly name: string;
  readonly dir: string;
  readonly usedBy: readonly string[];
  readonly problem: string;
}

export type KernelEntry = (KernelView & { readonly problem: null }) | BrokenKernelView;

/** What `vm cp` has copied. */
export interface VmCopied {
  readonly vm: string;
  readonly files: number;
  readonly directories: number;
  readonly links: number;
  /** Of the files' data; holes do not count. */
  readonly bytes: number;
  /** Devices, sockets and FIFOs that were left out: paths of the side they are on, at most 100 of them. */
  readonly skipped: readonly string[];
  readonly skippedCount: number;
}

export interface Results {
  'daemon.hello': DaemonHello;
  'daemon.status': DaemonStatus;
  'daemon.stop': null;
  'operation.list': readonly OperationSummary[];
  'operation.cancel': null;
  'vm.create': VmCreated;
  'vm.bootstrap': ToolsInstalled;
  'vm.start': VmView;
  'vm.stop': VmView;
  'vm.restart': VmView;
  'vm.pause': VmView;
  'vm.resume': VmView;
  'vm.fork': VmForked;
  'snapshot.create': VmSnapshotTaken;
  'snapshot.list': VmSnapshotList;
  'snapshot.show': VmSnapshotDetail;
  'snapshot.delete': VmSnapshotDeleted;
  'snapshot.restore': VmView;
  'snapshot.stream': StreamTicket;
  'snapshot.export': VmSnapshotExported;
  'snapshot.import': VmSnapshotView;
  'vm.kill': VmView;
  'vm.delete': VmView;
  'vm.prune': readonly VmView[];
  'vm.list': readonly VmView[];
  'vm.show': VmDetail;
  'vm.set': VmView;
  'vm.stats': VmView;
  'vm.ports': readonly PortEntry[];
  'vm.health': VmHealth;
  'vm.logs': StreamTicket;
  'vm.exec': ExecTicket;
  'vm.ssh': StreamTicket;
  'ssh.setup': SshSetup;
  'vm.cp': VmCopied;
  'workspace.plan': WorkspacePlan;
  'workspace.prepare': WorkspacePrepared;
  'workspace.status': WorkspaceStatus;
  'workspace.export': WorkspaceExported;
  'workspace.apply': WorkspaceApplied;
  'workspace.fetch': WorkspaceFetched;
  'image.list': readonly ImageEntry[];
  'image.show': ImageView;
  'image.build': ImageView;
  'image.warm': ImageWarmed;
  'kernel.list': readonly KernelEntry[];
  'kernel.show': KernelView;
  'system.df': DiskUse;
  'config.show': ConfigShown;
  'config.check': ConfigChecked;
  'config.schema': object;
  'doctor.run': DoctorReport;
  'doctor.fix': readonly DoctorFix[];
  'state.export': StateExported;
  'state.verify': StateVerified;
  'state.bootstrap': StateRestored;
  'state.list': readonly SnapshotView[];
  'state.prune': readonly SnapshotView[];
  'state.push': StatePushed;
  'state.pull': SnapshotView;
  'state.diff': StateDiff;
  'state.rebuild': StateRebuilt;
}

/** Methods that report progress and are registered as operations: listable, cancellable. */
export const LONG_METHODS: ReadonlySet<Method> = new Set<Method>([
  'vm.create',
  'vm.bootstrap',
  'vm.start',
  'vm.stop',
  'vm.restart',
  'vm.pause',
  'vm.resume',
  'vm.delete',
  'vm.prune',
  'vm.fork',
  'vm.cp',
  'snapshot.create',
  'snapshot.restore',
  'snapshot.export',
  'snapshot.import',
  'workspace.prepare',
  'workspace.status',
  'workspace.export',
  'workspace.apply',
  'workspace.fetch',
  'image.build',
  'image.warm',
  'doctor.run',
  'doctor.fix',
  'state.export',
  'state.verify',
  'state.bootstrap',
  'state.push',
  'state.pull',
  'state.diff',
  'state.rebuild',
]);

/** `error.data` of a failed request. */
export interface RpcErrorData {
  readonly code: string;
  readonly hint?: string;
  readonly operationId?: string;
}
