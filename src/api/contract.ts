/**
 * The RPC contract: every method with its parameters, result and whether it reports progress.
 * Client and server are typed from here; docs/rpc.md lists the same methods, and a test holds the two together.
 */

import type { z } from 'zod';
import type { ImageManifest, KernelManifest } from '../core/model/image.ts';
import type { VmRecord } from '../core/model/vm.ts';
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
  /** From the request to the guest's readiness. */
  readonly elapsedMs: number;
}

export interface WorkspacePlan extends WorkspaceReport {
  readonly mode: 'shallow_overlay';
  /** Paths relative to the repository's root, as git orders them. Not UTF-8: written with \xNN escapes. */
  readonly paths: readonly string[];
}

export interface PortEntry {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  readonly pid: number | null;
  readonly process: string | null;
  /** `<name>.vm:port`. */
  readonly endpoint: string;
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

export interface ImageView extends ImageManifest {
  readonly id: string;
  readonly artifactDir: string;
  readonly createdAt: string;
  readonly usedBy: readonly string[];
}

/** A kernel, with where it lies. */
export interface KernelView extends KernelManifest {
  readonly dir: string;
  readonly usedBy: readonly string[];
}

export interface Results {
  'daemon.hello': DaemonHello;
  'daemon.status': DaemonStatus;
  'daemon.stop': null;
  'operation.list': readonly OperationSummary[];
  'operation.cancel': null;
  'vm.create': VmCreated;
  'vm.start': VmView;
  'vm.stop': VmView;
  'vm.restart': VmView;
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
  'vm.exec': StreamTicket;
  'workspace.plan': WorkspacePlan;
  'image.list': readonly ImageView[];
  'image.show': ImageView;
  'image.build': ImageView;
  'kernel.list': readonly KernelView[];
  'kernel.show': KernelView;
}

/** Methods that report progress and are registered as operations: listable, cancellable. */
export const LONG_METHODS: ReadonlySet<Method> = new Set<Method>([
  'vm.create',
  'vm.start',
  'vm.stop',
  'vm.restart',
  'vm.delete',
  'vm.prune',
  'image.build',
]);

/** `error.data` of a failed request. */
export interface RpcErrorData {
  readonly code: string;
  readonly hint?: string;
  readonly operationId?: string;
}
