/** Snapshots as clients see them. */

import type { SnapshotView } from '../../../api/results/state.ts';
import type { SnapshotEntry } from '../../../state/snapshot-collection.ts';

/** Without a manifest nothing is known but where it is and what is wrong with it. */
export function snapshotView({
  digest,
  refs,
  path,
  createdAt,
  manifest,
  problem,
}: SnapshotEntry): SnapshotView {
  return {
    digest,
    refs,
    path,
    bytes: manifest?.payload_bytes ?? 0,
    encodedBytes: manifest?.encoded_bytes ?? 0,
    encoding: manifest?.encoding ?? 'identity',
    createdAt,
    sourceVersion: manifest?.source_chassis_version ?? '',
    migrationVersion: manifest?.db_migration_version ?? 0,
    controlVersion: String(manifest?.control_version ?? 0n),
    tableCounts: manifest?.table_counts ?? {},
    problem: problem ?? null,
  };
}
