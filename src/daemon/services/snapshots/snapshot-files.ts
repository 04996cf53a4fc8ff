/** Snapshots that leave as files, and come as files. */

import type { BangerPaths } from '../../../host/paths.ts';
import type { TicketBooth } from '../../../rpc/tickets.ts';
import { ByteStreams } from '../../byte-streams.ts';
import { SnapshotExport } from './snapshot-export.ts';
import { SnapshotImport, type SnapshotImportDeps } from './snapshot-import.ts';

export interface SnapshotFiles {
  readonly streams: ByteStreams;
  readonly exports: SnapshotExport;
  readonly imports: SnapshotImport;
}

export interface SnapshotFilesDeps extends Omit<SnapshotImportDeps, 'streams' | 'vmSnapshotsDir'> {
  readonly paths: BangerPaths;
  readonly tickets: TicketBooth;
}

export function makeSnapshotFiles({ paths, tickets, ...deps }: SnapshotFilesDeps): SnapshotFiles {
  const streams = new ByteStreams(tickets, paths.streamSocketPath);
  const { snapshots, shelf, runner } = deps;
  return {
    streams,
    exports: new SnapshotExport({ snapshots, shelf, streams, runner, scratchDir: paths.scratchDir }),
    imports: new SnapshotImport({ ...deps, streams, vmSnapshotsDir: paths.vmSnapshotsDir }),
  };
}
