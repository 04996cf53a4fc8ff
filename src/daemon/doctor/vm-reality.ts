/** What of a VM is really there: processes by /proc, disks by their headers. Nothing is changed, nothing is asked of QEMU. */

import { constants, readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { isAbandonedTemporary, listDir } from '../../host/files.ts';
import { isSameProcess } from '../../host/proc.ts';
import { QCOW2_PROBE_BYTES, qcow2VirtualSize } from '../../images/qcow2.ts';
import { readHandles, vmFiles } from '../vm-files.ts';
import type { DoctorContext } from './context.ts';

/**
 * Pids of processes whose arguments name a socket in a VM's socket directory, by the directory's name. A machine that a
 * living daemon is making a template of is no VM and not among them.
 */
export function vmmsBySocketDir({ paths, host }: DoctorContext): ReadonlyMap<string, readonly number[]> {
  const prefix = `${paths.vmRuntimesDir}/`;
  const drafts = `${paths.templatesDir}/.`;
  const found = new Map<string, number[]>();
  for (const name of readdirSync(host.procDir)) {
    const pid = Number(name);
    if (!/^[1-9]\d*$/.test(name) || pid === process.pid) continue;
    const line = commandLine(join(host.procDir, name, 'cmdline'));
    if (isMakingTemplate(line, drafts)) continue;
    for (let at = line.indexOf(prefix); at >= 0; at = line.indexOf(prefix, at + 1)) {
      const dir = /^[0-9a-f]{12}(?=\/)/.exec(line.slice(at + prefix.length))?.[0];
      if (dir !== undefined) found.set(dir, [...new Set([...(found.get(dir) ?? []), pid])]);
    }
  }
  return found;
}

function isMakingTemplate(line: string, drafts: string): boolean {
  const at = line.indexOf(drafts);
  if (at < 0) return false;
  const name = /^[^/\0,]+/.exec(line.slice(at + drafts.length - 1))?.[0] ?? '';
  return !isAbandonedTemporary(name);
}

/** Whether a living daemon is making a template: then there is a machine, with its sockets, that is no VM. */
export async function isTemplateBeingMade({ paths }: DoctorContext): Promise<boolean> {
  const names = await listDir(paths.templatesDir);
  return names.some((name) => name.startsWith('.') && !isAbandonedTemporary(name));
}

/** Ids of machines that wait for a VM (services/vms/standby.ts): a living daemon has marked them as its own. */
export async function standbyIds({ paths }: DoctorContext): Promise<ReadonlySet<string>> {
  const ids = new Set<string>();
  for (const id of await listDir(paths.vmsDir)) {
    const names = await listDir(join(paths.vmsDir, id)).catch(() => []);
    if (names.some((name) => name.startsWith('.standby.') && !isAbandonedTemporary(name))) ids.add(id);
  }
  return ids;
}

/** proc(5): empty for kernel threads and for processes that are gone. */
function commandLine(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** The pid in the VM's handles, when that very process is still there. */
export async function pidByHandles(context: DoctorContext, id: string): Promise<number | undefined> {
  const handles = await readHandles(vmFiles(context.paths, id));
  return handles !== undefined && isSameProcess(handles) ? handles.pid : undefined;
}

export interface OverlayFacts {
  readonly virtualSizeBytes: number;
  /** Null: it stands by itself. */
  readonly backingPath: string | null;
}

/** docs/interop/qcow2.txt of QEMU: offset and length of the backing file's name. */
const BACKING_OFFSET_AT = 8;
const BACKING_LENGTH_AT = 16;
const MAX_BACKING_NAME_BYTES = 1023;
const HEADER_CLUSTER_BYTES = 64 * 1024;

/** Undefined when the file is no qcow2 image. @throws the system's error */
export async function readOverlay(path: string): Promise<OverlayFacts | undefined> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const header = Buffer.alloc(HEADER_CLUSTER_BYTES);
  const { bytesRead } = await file.read(header, 0, header.length, 0);
  const bytes = header.subarray(0, bytesRead);
  const virtualSizeBytes = qcow2VirtualSize(bytes.subarray(0, QCOW2_PROBE_BYTES));
  if (virtualSizeBytes === undefined) return undefined;
  const offset = Number(bytes.readBigUInt64BE(BACKING_OFFSET_AT));
  const length = bytes.readUInt32BE(BACKING_LENGTH_AT);
  if (offset === 0) return { virtualSizeBytes, backingPath: null };
  if (length === 0 || length > MAX_BACKING_NAME_BYTES || offset + length > bytes.length) return undefined;
  return { virtualSizeBytes, backingPath: bytes.toString('utf8', offset, offset + length) };
}
