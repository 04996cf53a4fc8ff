/**
 * The RPC contract: every method with its parameters, result and whether it reports progress.
 * Client and server are typed from here; docs/rpc.md lists the same methods, and a test holds the two together.
 */

import type { z } from 'zod';
import type { ConfigChecked, ConfigShown } from '../core/model/config.ts';
import type { DaemonHello, DaemonStatus, DiskUse, OperationSummary } from './results/daemon.ts';
import type { DoctorFix, DoctorReport } from './results/doctor.ts';
import type { ImageEntry, ImageView, ImageWarmed, KernelEntry, KernelView } from './results/image.ts';
import type {
  VmSnapshotDeleted,
  VmSnapshotDetail,
  VmSnapshotExported,
  VmSnapshotList,
  VmSnapshotTaken,
  VmSnapshotView,
} from './results/snapshot.ts';
import type {
  SnapshotView,
  StateDiff,
  StateExported,
  StatePushed,
  StateRebuilt,
  StateRestored,
  StateVerified,
} from './results/state.ts';
import type { StreamTicket } from './results/stream.ts';
import type {
  ExecTicket,
  PortEntry,
  SshSetup,
  ToolsInstalled,
  VmCopied,
  VmCreated,
  VmDetail,
  VmForked,
  VmHealth,
  VmView,
} from './results/vm.ts';
import type {
  WorkspaceApplied,
  WorkspaceExported,
  WorkspaceFetched,
  WorkspacePlan,
  WorkspacePrepared,
  WorkspaceStatus,
} from './results/workspace.ts';
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
