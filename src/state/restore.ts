/** A verified snapshot to a database file of its own. */

import type { VerifiedSnapshot } from './verify.ts';

/**
 * Makes `path` (0600, must not exist) with the snapshot's rows at the snapshot's own schema version. The file is in
 * rollback-journal mode and has no sidecar; its bytes are durable, its name is not (the caller syncs the directory).
 * All that can be wrong with the snapshot is found before the file is made.
 * @throws {ErrVerify} `grammar`, `schema`, `rows`, `redump`
 * @throws {BangerError} of the file: `no_space`, `permission`, `already_exists`, `io_error`; the file is gone then
 */
export function restoreToTempDb(snapshot: VerifiedSnapshot, path: string): void {
  throw new Error('being written');
}
