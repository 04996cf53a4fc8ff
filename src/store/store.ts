/** The state database behind one object. Synchronous: a call is one short transaction, tens of microseconds. */

import type { DatabaseSync } from 'node:sqlite';
import type { ImageRecord } from '../core/model/image.ts';
import type { VmRecord, VmStats, VmWorkspace } from '../core/model/vm.ts';
import { storeError } from './errors.ts';
import * as images from './images.ts';
import { MIGRATIONS } from './migrations/list.ts';
import { migrate } from './migrations/run.ts';
import { openDatabase } from './open.ts';
import * as vms from './vms.ts';

/** What each operation does and throws is said where it is written: images.ts, vms.ts. */
export interface Store {
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
 * @throws {BangerError} see openDatabase and migrate
 */
export function openStore(path: string): Store {
  const database = openDatabase(path);
  try {
    migrate(database, path, MIGRATIONS);
  } catch (error) {
    database.close();
    throw storeError(path, error);
  }
  return storeOver(database, path);
}

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
    close,
    [Symbol.dispose]: close,
  };
}
