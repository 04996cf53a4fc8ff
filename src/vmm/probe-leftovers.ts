/**
 * A probe's machine belongs to no VM: when the daemon is killed during one, nothing else would ever find it. So each
 * probe's directory holds a record of who made it and of its process, and the next probe ends what a dead one left.
 */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { listDir, readJsonFile, removeTree, writeFileAtomic } from '../host/files.ts';
import { isSameProcess, type ProcessIdentity, processIdentity } from '../host/proc.ts';
import type { MachineHandles } from './driver.ts';
import { VmmProcess } from './process.ts';

export const PROBE_DIR_PREFIX = 'probe-';
const PROBE_DIR = /^probe-[A-Za-z0-9]{6}$/;
const RECORD = 'probe.json';
const MAX_RECORD_BYTES = 64 * 1024;
/** A directory without a record: its maker writes one within milliseconds, or died. */
const RECORD_GRACE_MS = 60_000;

interface ProbeRecord {
  readonly owner: ProcessIdentity | undefined;
  readonly machine: ProcessIdentity | undefined;
}

/** Writes down that this process made the directory, and which machine runs in it once there is one. */
export async function recordProbe(dir: string, handles: MachineHandles | undefined): Promise<void> {
  const machine = handles === undefined ? undefined : identityOf(handles);
  const record: ProbeRecord = { owner: processIdentity(process.pid), machine };
  await writeFileAtomic(join(dir, RECORD), `${JSON.stringify(record)}\n`, { durable: false });
}

/** Ends the machines of probes whose maker is gone, and removes their files. */
export async function sweepProbes(scratchDir: string): Promise<void> {
  for (const name of await listDir(scratchDir)) {
    if (!PROBE_DIR.test(name)) continue;
    const dir = join(scratchDir, name);
    const record = await readRecord(dir);
    if (
      record === undefined ? await isYoung(dir) : record.owner !== undefined && isSameProcess(record.owner)
    ) {
      continue;
    }
    if (record?.machine !== undefined)
      await VmmProcess.adopt(record.machine, { title: 'the VMM', logPaths: [] })?.kill();
    await removeTree(dir, { below: scratchDir });
  }
}

async function readRecord(dir: string): Promise<ProbeRecord | undefined> {
  const json = await readJsonFile(join(dir, RECORD), MAX_RECORD_BYTES).catch(() => undefined);
  if (typeof json !== 'object' || json === null) return undefined;
  const { owner, machine } = json as { owner?: unknown; machine?: unknown };
  return { owner: identityOf(owner), machine: identityOf(machine) };
}

function identityOf(value: unknown): ProcessIdentity | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { pid, pidStartTicks, hostBootId } = value as Record<string, unknown>;
  if (typeof pid !== 'number' || typeof pidStartTicks !== 'number' || typeof hostBootId !== 'string') {
    return undefined;
  }
  return { pid, pidStartTicks, hostBootId };
}

async function isYoung(dir: string): Promise<boolean> {
  const found = await stat(dir).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs < RECORD_GRACE_MS;
}
