/** The state database behind one object. Synchronous: a call is one short transaction, tens of microseconds. */

import type { DatabaseSync } from 'node:sqlite';
import { BangerError, type ErrorCode } from '../core/errors.ts';
import type { ImageRecord } from '../core/model/image.ts';
import type { VmRecord, VmStats } from '../core/model/vm.ts';
import type { VmWorkspace } from '../core/model/workspace.ts';
import { storeError } from './errors.ts';
import * as images from './images.ts';
import { MIGRATIONS } from './migrations/list.ts';
import { type MigrateOptions, migrate } from './migrations/run.ts';
import { assertNotNewer, migrationStatus } from './migrations/status.ts';
import { openDatabase } from './open.ts';
import { isOpenHere } from '../host/open-here.ts';
import { openReadOnlyViewSync } from './read-only-view.ts';
import { readTransaction, type StateSource } from './state-source.ts';
import * as vms from './vms.ts';

/** What each operation does and throws is said where it is written: images.ts, vms.ts. */
export interface Store extends StateSource {
  upsertImage(image: ImageRecord): void;
  getImageByName(name: string): ImageRecord | undefined;
  getImageById(id: string): ImageRecord | undefined;
  listImages(): readonly ImageRecord[];
  deleteImage(id: string): boolean;

  insertVm(vm: vms.NewVm, prefix: string): VmRecord;
  upsertVm(vm: VmRecord): void;
  getVmByIdOrName(reference: string): VmRecord | undefined;
  getVmById(id: string): VmRecord | undefined;
  getVmByName(name: string): VmRecord | undefined;
  listVms(): readonly VmRecord[];
  vmsUsingImage(imageId: string): readonly VmRecord[];
  deleteVm(id: string): boolean;
  setVmWorkspace(id: string, workspace: VmWorkspace | null, at: string): boolean;
  setVmStats(id: string, stats: VmStats): boolean;
  touchVm(id: string, at: string): boolean;

  /** Closes the connection; idempotent. */
  close(): void;
  [Symbol.dispose](): void;
}

/**
 * Opens the state database, makes it when missing, and brings it to this program's schema.
 * The caller holds the instance lock.
 * @throws {BangerError} see openDatabase and migrate; `io_error`: a -wal without its database, which SQLite would delete
 */
export function openStore(path: string, options: MigrateOptions = {}): Store {
  refuseBeforeTouching(path);
  const database = openDatabase(path);
  try {
    migrate(database, path, MIGRATIONS, options);
  } catch (error) {
    database.close();
    throw storeError(path, error);
  }
  return storeOver(database, path);
}

/** Opening for writing changes files at once, so what is going to be refused is found in a copy. */
function refuseBeforeTouching(path: string): void {
  // Migrated by whoever opened it here; and reading it as a file would drop that one's locks.
  if (isOpenHere(path)) return;
  try {
    using view = openReadOnlyViewSync(path, { timeoutMs: LOOK_TIMEOUT_MS });
    if (view !== undefined) assertNotNewer(migrationStatus(view.database, MIGRATIONS), path);
  } catch (error) {
    const known = storeError(path, error);
    if (known instanceof BangerError && LOOK_MAY_FAIL.has(known.code)) return;
    throw known;
  }
}

const LOOK_TIMEOUT_MS = 1000;
/** A journal SQLite will roll back, another writer, no room for a copy: the open database is asked anyway. */
const LOOK_MAY_FAIL: ReadonlySet<ErrorCode> = new Set([
  'invalid_state',
  'unavailable',
  'no_space',
  'limit_exceeded',
]);

function storeOver(database: DatabaseSync, path: string): Store {
  /** Binds an operation to this database and puts SQLite's errors into our words. */
  const bind = <Args extends readonly unknown[], Result>(
    operation: (database: DatabaseSync, ...args: Args) => Result,
  ) => {
    return (...args: Args): Result => {
      try {
        return operation(database, ...args);
      } catch (error) {
        throw storeError(path, error);
      }
    };
  };
  const close = (): void => {
    if (database.isOpen) database.close();
  };
  return {
    upsertImage: bind(images.upsertImage),
    getImageByName: bind(images.getImageByName),
    getImageById: bind(images.getImageById),
    listImages: bind(images.listImages),
    deleteImage: bind(images.deleteImage),
    insertVm: bind(vms.insertVm),
    upsertVm: bind(vms.upsertVm),
    getVmByIdOrName: bind(vms.getVmByIdOrName),
    getVmById: bind(vms.getVmById),
    getVmByName: bind(vms.getVmByName),
    listVms: bind(vms.listVms),
    vmsUsingImage: bind(vms.vmsUsingImage),
    deleteVm: bind(vms.deleteVm),
    setVmWorkspace: bind(vms.setVmWorkspace),
    setVmStats: bind(vms.setVmStats),
    touchVm: bind(vms.touchVm),
    // Synchronous within: nothing of this process writes while `work` runs.
    read: async (work) => readTransaction(database, path, work),
    close,
    [Symbol.dispose]: close,
  };
}
