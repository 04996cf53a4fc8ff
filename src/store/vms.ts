/** The `vms` table: one function per operation. */

import type { DatabaseSync, SQLInputValue } from 'node:sqlite';
import { BangerError } from '../core/errors.ts';
import type { VmRecord, VmStats } from '../core/model/vm.ts';
import type { VmWorkspace } from '../core/model/workspace.ts';
import { nextGuestIp } from './addresses.ts';
import { isForeignKeyViolation, isUniqueViolation } from './errors.ts';
import { change, durableTransaction, type Row, selectAll, selectOne } from './sql.ts';
import { isReadableSpec, runtimeText, specText, statsText, toVmRecord, workspaceText } from './vm-row.ts';

/** A VM to be: its address is given out by the insert. */
export type NewVm = Omit<VmRecord, 'guestIp'>;

/**
 * Reserves the name and the next free address of `prefix` (three octets) and inserts the row, all or nothing.
 * @throws {BangerError} `already_exists` (the name), `not_found` (the image), `limit_exceeded` (no address left)
 */
export function insertVm(database: DatabaseSync, vm: NewVm, prefix: string): VmRecord {
  return durableTransaction(database, () => {
    const rows = selectAll(database, 'SELECT guest_ip FROM vms');
    // The name first: a taken name is the better answer when there is no address left either.
    assertNameFree(database, vm);
    const guestIp = nextGuestIp(prefix, new Set(rows.map((row) => String(row['guest_ip']))));
    const record: VmRecord = { ...vm, guestIp };
    write(
      database,
      `INSERT INTO vms (id, name, image_id, guest_ip, state, created_at, updated_at, last_touched_at, spec_json,
         runtime_json, stats_json, workspace_json)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      record,
      specText(record.spec),
      [workspaceText(record.workspace)],
    );
    return record;
  });
}

function assertNameFree(database: DatabaseSync, vm: Pick<VmRecord, 'id' | 'name'>): void {
  const other = selectOne(database, 'SELECT id FROM vms WHERE name = ? AND id <> ?', vm.name, vm.id);
  if (other !== undefined) throw nameTaken(vm.name);
}

/**
 * Inserts a VM or replaces the one with its id, except for what has a writer of its own: workspace_json (a lifecycle
 * write must not undo what prepare recorded), created_at, and a later last_touched_at. A stored spec that cannot be
 * read stays as evidence.
 * @throws {BangerError} `already_exists`: another VM has the name or the address; `not_found`: no such image
 */
export function upsertVm(database: DatabaseSync, vm: VmRecord): void {
  durableTransaction(database, () => {
    const stored = selectOne(database, 'SELECT spec_json FROM vms WHERE id = ?', vm.id);
    const keep = stored !== undefined && !isReadableSpec(stored['spec_json']);
    write(
      database,
      `INSERT INTO vms (id, name, image_id, guest_ip, state, created_at, updated_at, last_touched_at, spec_json,
         runtime_json, stats_json)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET name = excluded.name, image_id = excluded.image_id,
         guest_ip = excluded.guest_ip, state = excluded.state, updated_at = excluded.updated_at,
         last_touched_at = max(last_touched_at, excluded.last_touched_at),
         spec_json = excluded.spec_json,
         runtime_json = excluded.runtime_json, stats_json = excluded.stats_json`,
      vm,
      keep ? (stored['spec_json'] as SQLInputValue) : specText(vm.spec),
    );
  });
}

/** The eleven columns every write has, then what the statement takes beyond them. */
function write(
  database: DatabaseSync,
  sql: string,
  vm: VmRecord,
  spec: SQLInputValue,
  more: readonly string[] = [],
): void {
  try {
    change(
      database,
      sql,
      vm.id,
      vm.name,
      vm.imageId,
      vm.guestIp,
      vm.state,
      vm.createdAt,
      vm.updatedAt,
      vm.lastTouchedAt,
      spec,
      runtimeText(vm.runtime),
      statsText(vm.stats),
      ...more,
    );
  } catch (cause) {
    if (isUniqueViolation(cause, 'vms.name')) throw nameTaken(vm.name, cause);
    if (isUniqueViolation(cause, 'vms.guest_ip')) {
      throw new BangerError('already_exists', `guest address ${vm.guestIp} is taken`, { cause });
    }
    if (isForeignKeyViolation(cause)) {
      throw new BangerError('not_found', `the image of VM "${vm.name}" was deleted meanwhile`, { cause });
    }
    throw cause;
  }
}

function nameTaken(name: string, cause?: unknown): BangerError {
  return new BangerError('already_exists', `VM name "${name}" is taken`, {
    hint: `choose another --name, or look at it: banger vm show ${name}`,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The VM with exactly this id or this name. Prefixes are resolved over the list: core/references.ts. */
export function getVmByIdOrName(database: DatabaseSync, reference: string): VmRecord | undefined {
  return getVmById(database, reference) ?? getVmByName(database, reference);
}

export function getVmById(database: DatabaseSync, id: string): VmRecord | undefined {
  return optional(selectOne(database, 'SELECT * FROM vms WHERE id = ?', id));
}

export function getVmByName(database: DatabaseSync, name: string): VmRecord | undefined {
  return optional(selectOne(database, 'SELECT * FROM vms WHERE name = ?', name));
}

function optional(row: Row | undefined): VmRecord | undefined {
  return row === undefined ? undefined : toVmRecord(row);
}

/** Oldest first; of one instant, by id. A damaged row is a VM in state `error`. */
export function listVms(database: DatabaseSync): readonly VmRecord[] {
  return selectAll(database, 'SELECT * FROM vms ORDER BY created_at, id').map(toVmRecord);
}

/** VMs whose disk stands on the image, oldest first. */
export function vmsUsingImage(database: DatabaseSync, imageId: string): readonly VmRecord[] {
  const sql = 'SELECT * FROM vms WHERE image_id = ? ORDER BY created_at, id';
  return selectAll(database, sql, imageId).map(toVmRecord);
}

/** Removes the row; false when there was none. */
export function deleteVm(database: DatabaseSync, id: string): boolean {
  return durableTransaction(database, () => change(database, 'DELETE FROM vms WHERE id = ?', id) > 0);
}

/** Records what prepare made, or forgets it; false when there is no such VM. */
export function setVmWorkspace(
  database: DatabaseSync,
  id: string,
  workspace: VmWorkspace | null,
  at: string,
): boolean {
  const sql = 'UPDATE vms SET workspace_json = ?, updated_at = ? WHERE id = ?';
  return durableTransaction(database, () => change(database, sql, workspaceText(workspace), at, id) > 0);
}

/** Records a sample; no change of the VM itself, so updated_at stays. False when there is no such VM. */
export function setVmStats(database: DatabaseSync, id: string, stats: VmStats): boolean {
  return change(database, 'UPDATE vms SET stats_json = ? WHERE id = ?', statsText(stats), id) > 0;
}

/** Somebody used the VM: its idle time starts anew. Never goes backwards. False when there is no such VM. */
export function touchVm(database: DatabaseSync, id: string, at: string): boolean {
  const sql = 'UPDATE vms SET last_touched_at = max(last_touched_at, ?) WHERE id = ?';
  return change(database, sql, at, id) > 0;
}
