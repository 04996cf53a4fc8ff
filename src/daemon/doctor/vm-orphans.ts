/** Checks for what no row owns: processes and socket directories. */

import { basename, join } from 'node:path';
import { BangerError } from '../../core/errors.ts';
import { listDir, removeTree } from '../../host/files.ts';
import { type Check, info, type Outcome, orOk, type Repair, warning } from './check.ts';
import type { DoctorContext } from './context.ts';
import { factsOf } from './host-facts.ts';
import { listVmDirs } from '../vm-record-file.ts';
import { isServed } from './sockets.ts';
import { isTemplateBeingMade, pidByHandles, standbyIds, vmmsBySocketDir } from './vm-reality.ts';

const TIMEOUT_MS = 15_000;
const UNREADABLE = 'not looked at: the database cannot be read';
const SHORT_ID = /^[0-9a-f]{12}$/;

const orphanProcesses: Check<DoctorContext> = {
  id: 'vms.orphan-processes',
  group: 'vms',
  title: 'processes without a VM',
  timeoutMs: TIMEOUT_MS,
  run: async (context) => {
    const { vmsDir } = context.paths;
    const bySocketDir = vmmsBySocketDir(context);
    const waiting = await standbyIds(context);
    const dirs = (await listDir(vmsDir)).filter((name) => /^[0-9a-f]{32}$/.test(name));
    // Rows after the rest: a VM that is being created has its row first.
    const rows = await context.rowsNow();
    if (rows === undefined) return info(UNREADABLE);
    const owned = new Set([...rows.vms.map(({ id }) => id), ...waiting]);
    const ownedShort = new Set([...owned].map((id) => id.slice(0, 12)));
    const recorded = await listVmDirs(vmsDir);
    // Its row was lost: the process is a VM, and must not be taken for rubbish.
    const lost = new Set(
      recorded.filter((one) => one.recorded && !owned.has(one.id)).map(({ id }) => id.slice(0, 12)),
    );
    const found = new Map<number, string>();
    for (const [dir, pids] of bySocketDir) {
      if (ownedShort.has(dir)) continue;
      for (const pid of pids) found.set(pid, join(context.paths.vmRuntimesDir, dir));
    }
    for (const id of dirs.filter((one) => !owned.has(one))) {
      const pid = await pidByHandles(context, id);
      if (pid !== undefined) found.set(pid, join(vmsDir, id));
    }
    const alive = [...found].filter(
      ([pid]) => factsOf(join(context.host.procDir, String(pid))) !== undefined,
    );
    const outcomes = alive.map(([pid, where]) =>
      lost.has(basename(where).slice(0, 12))
        ? warning(`process ${pid} is that of a VM in ${where} that has lost its row; it goes on`, {
            fix: 'banger state rebuild',
          })
        : warning(`process ${pid} works in ${where}, and no VM of the database does`, {
            fix: `look at it: ps -fp ${pid}; end it: kill ${pid}`,
          }),
    );
    return orOk(outcomes, 'none');
  },
};

const sockets: Check<DoctorContext> = {
  id: 'vms.sockets',
  group: 'vms',
  title: 'sockets without a VM',
  timeoutMs: TIMEOUT_MS,
  run: async (context) => {
    const { vmRuntimesDir } = context.paths;
    const names = (await listDir(vmRuntimesDir)).filter((name) => SHORT_ID.test(name));
    const rows = await context.rowsNow();
    if (rows === undefined) return info(UNREADABLE);
    if (await isTemplateBeingMade(context)) return info('not looked at while a template is being made');
    const ids = [...rows.vms.map(({ id }) => id), ...(await standbyIds(context))];
    const owned = new Set(ids.map((id) => id.slice(0, 12)));
    const outcomes: Outcome[] = [];
    for (const name of names.filter((one) => !owned.has(one))) {
      const dir = join(vmRuntimesDir, name);
      const facts = factsOf(dir);
      if (facts === undefined) continue;
      const isOurs = facts.kind === 'directory' && facts.uid === context.host.uid;
      const isFree = isOurs && (await isAbandoned(context, dir));
      const fix = isFree
        ? 'the next start of the daemon removes it'
        : 'as "processes without a VM" says of the one that uses it';
      const repair = isFree ? { repair: removeSocketDir(context, dir) } : {};
      outcomes.push(warning(`${dir} belongs to no VM of the database`, { fix, ...repair }));
    }
    return orOk(outcomes, 'none');
  },
};

/** No process was started with it, and nobody serves a socket in it. */
async function isAbandoned(context: DoctorContext, dir: string): Promise<boolean> {
  if ([...vmmsBySocketDir(context).keys()].some((name) => dir.endsWith(`/${name}`))) return false;
  for (const name of await listDir(dir)) {
    const path = join(dir, name);
    if (factsOf(path)?.kind === 'socket' && (await isServed(path))) return false;
  }
  return true;
}

const MAX_SOCKET_DIR_ENTRIES = 100;

function removeSocketDir(context: DoctorContext, dir: string): Repair {
  return {
    what: `rm -r ${dir}`,
    needsLock: true,
    apply: async () => {
      if (!(await isAbandoned(context, dir))) {
        throw new BangerError('in_use', `${dir} is in use`);
      }
      await removeTree(dir, { below: context.paths.vmRuntimesDir, maxEntries: MAX_SOCKET_DIR_ENTRIES });
    },
  };
}

export const ORPHAN_CHECKS: readonly Check<DoctorContext>[] = [orphanProcesses, sockets];
