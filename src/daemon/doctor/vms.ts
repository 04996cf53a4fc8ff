/** Checks of VMs: rows against processes, directories, disks and sockets. */

import { isAbsolute, join, resolve } from 'node:path';
import { errorText } from '../../core/errors.ts';
import type { VmState } from '../../core/model/vm.ts';
import { counted } from '../../core/units.ts';
import { listDir } from '../../host/files.ts';
import { readHandles, vmFiles } from '../vm-files.ts';
import { diskFormatOf } from '../services/vms/driver-limits.ts';
import { findSavedMemory, hasRun } from '../services/vms/saved-memory.ts';
import { hasVmRecord, readVmRecord } from '../vm-record-file.ts';
import { type Check, failure, info, type Outcome, orOk, warning } from './check.ts';
import type { DoctorContext, Rows, VmFacts } from './context.ts';
import { factsOf } from './host-facts.ts';
import { ORPHAN_CHECKS } from './vm-orphans.ts';
import { pidByHandles, readOverlay, standbyIds, vmmsBySocketDir } from './vm-reality.ts';

const TIMEOUT_MS = 15_000;
/** States that a daemon is about to change. */
const IN_MOTION: ReadonlySet<VmState> = new Set(['starting', 'stopping']);
const HAS_A_VMM: ReadonlySet<VmState> = new Set(['running', 'paused', 'starting', 'stopping']);

/** A check that needs the rows; without them it says so, and the state group says why. */
function overRows(
  id: `vms.${string}`,
  title: string,
  quiet: (rows: Rows) => string,
  run: (rows: Rows, context: DoctorContext) => Promise<readonly Outcome[]>,
): Check<DoctorContext> {
  return {
    id,
    group: 'vms',
    title,
    timeoutMs: TIMEOUT_MS,
    run: async (context) => {
      const rows = await context.rows();
      if (rows === undefined) return info('not looked at: the database cannot be read');
      return orOk(await run(rows, context), quiet(rows));
    },
  };
}

const processes = overRows(
  'vms.processes',
  'processes of VMs',
  ({ vms }) => {
    const byState = (['running', 'paused', 'saved'] as const).flatMap((state) => {
      const count = vms.filter((vm) => vm.state === state).length;
      return count === 0 && state !== 'running' ? [] : [`${count} ${state}`];
    });
    return [counted(vms.length, 'VM'), ...byState].join(', ');
  },
  async (rows, context) => {
    const bySocketDir = vmmsBySocketDir(context);
    const outcomes: Outcome[] = [];
    for (const vm of rows.vms) {
      // A saved one may be going on at this moment.
      if (rows.live && (IN_MOTION.has(vm.state) || vm.state === 'saved')) continue;
      const stray = bySocketDir.get(vm.id.slice(0, 12))?.[0];
      const known = vm.pid ?? (await pidByHandles(context, vm.id));
      const fix = rows.live
        ? `banger vm kill ${vm.name}`
        : atNextStart(vm, known ?? stray, known !== undefined);
      const outcome = processOutcome(vm, known ?? stray, rows.live, fix);
      if (outcome !== undefined) outcomes.push(outcome);
    }
    return outcomes;
  },
);

/** The row is older than the process where a VM that is down in it can be taken over: as reconcile does. */
function atNextStart(vm: VmFacts, pid: number | undefined, hasHandles: boolean): string {
  const isDown = vm.state === 'stopped' || vm.state === 'created';
  if (isDown && hasHandles) return 'the next start of the daemon takes it over, running: banger daemon start';
  if (isDown) return `nothing else ends it: look at it, then kill ${pid}`;
  return 'the next start of the daemon ends it: banger daemon start';
}

function processOutcome(
  vm: VmFacts,
  pid: number | undefined,
  live: boolean,
  fix: string,
): Outcome | undefined {
  const name = JSON.stringify(vm.name);
  if (HAS_A_VMM.has(vm.state) && pid === undefined) {
    const found = `VM ${name} is ${vm.state} in the database and has no process`;
    if (live) return warning(found, { fix });
    return info(found, { fix: 'as after a reboot; the next start of the daemon calls it stopped' });
  }
  if (!HAS_A_VMM.has(vm.state) && pid !== undefined) {
    const found = `VM ${name} is ${vm.state} in the database, but a process of it runs (pid ${pid})`;
    return warning(found, { fix });
  }
  return undefined;
}

/** A VM that never ran has no disk yet: its first start makes it. So would every later one, empty. */
const disks = overRows(
  'vms.disks',
  'disks of VMs',
  ({ vms }) => `${vms.filter(({ state }) => state !== 'created').length} VMs with a disk`,
  async (rows, context) => {
    const outcomes: Outcome[] = [];
    for (const vm of rows.vms) {
      if (vm.runtime.pending !== undefined || (rows.live && IN_MOTION.has(vm.state))) continue;
      const image = rows.images.find(({ id }) => id === vm.imageId);
      const wrong = await diskProblem(vm, image?.rootfsPath ?? null, context);
      if (wrong === undefined) continue;
      const fix = `put it back, or: banger vm delete ${vm.name}`;
      outcomes.push(failure(`VM ${JSON.stringify(vm.name)}: ${wrong}`, { fix }));
    }
    return outcomes;
  },
);

async function diskProblem(
  vm: VmFacts,
  imagePath: string | null,
  { paths }: DoctorContext,
): Promise<string | undefined> {
  const { dir, rootDisk } = vmFiles(paths, vm.id);
  const facts = factsOf(rootDisk);
  if (facts === undefined) {
    if (vm.state === 'created') return undefined;
    const what = factsOf(dir) === undefined ? `its directory ${dir}` : `its disk ${rootDisk}`;
    // As assertDisk in vm-lifecycle.ts: after a first start that failed there may be none yet.
    const then = vm.state === 'error' ? 'a start would make an empty disk' : 'it cannot be started without';
    return `${what} is gone; ${then}`;
  }
  if (facts.kind !== 'file') return `${rootDisk} is not a regular file`;
  if (diskFormatOf(vm.spec) === 'raw') return undefined;
  const overlay = await readOverlay(rootDisk);
  if (overlay === undefined) return `${rootDisk} is no qcow2 image any more`;
  if (overlay.backingPath === null) return undefined;
  const backing = isAbsolute(overlay.backingPath) ? overlay.backingPath : resolve(dir, overlay.backingPath);
  if (factsOf(backing) === undefined) return `the image its disk stands on is missing: ${backing}`;
  if (imagePath === null || imagePath === backing) return undefined;
  return `its disk stands on ${backing}, but its image is ${imagePath}`;
}

const handles = overRows(
  'vms.handles',
  'handles of VMs',
  () => 'none that are stale',
  async (rows, { paths }) => {
    const outcomes: Outcome[] = [];
    for (const vm of rows.vms) {
      if (rows.live && IN_MOTION.has(vm.state)) continue;
      const files = vmFiles(paths, vm.id);
      if (factsOf(files.handlesFile) === undefined) continue;
      const name = JSON.stringify(vm.name);
      const fix = 'the next start of the daemon, or of the VM, removes it';
      if ((await readHandles(files)) === undefined) {
        outcomes.push(warning(`VM ${name}: ${files.handlesFile} cannot be read`, { fix }));
      } else if (!HAS_A_VMM.has(vm.state)) {
        outcomes.push(info(`VM ${name} is ${vm.state} and still has ${files.handlesFile}`, { fix }));
      }
    }
    return outcomes;
  },
);

const saved = overRows(
  'vms.saved',
  'saved memory of VMs',
  () => 'all that is needed is there, and no more',
  async (rows, { paths }) => {
    const outcomes: Outcome[] = [];
    for (const vm of rows.vms) {
      const files = vmFiles(paths, vm.id);
      // One that a daemon has may be on its way to or from it.
      if (rows.live && (vm.state !== 'saved' || (await hasRun(files)))) continue;
      const name = JSON.stringify(vm.name);
      const found = await findSavedMemory(files, vm.name).catch((error: unknown) => errorText(error));
      if (vm.state === 'saved' && typeof found !== 'object') {
        const what = `VM ${name} is saved, and cannot go on: ${found ?? 'its memory is gone'}`;
        outcomes.push(warning(what, { fix: `banger vm start ${vm.name} boots it from its disk` }));
      } else if (vm.state !== 'saved' && factsOf(files.savedDir) !== undefined) {
        const then = found === undefined ? 'removes it' : 'calls the VM saved';
        outcomes.push(
          info(`VM ${name} is ${vm.state} and has ${files.savedDir}`, {
            fix: `the next start of the daemon ${then}`,
          }),
        );
      }
    }
    return outcomes;
  },
);

const errors = overRows(
  'vms.errors',
  'VMs in error',
  () => 'none',
  async (rows) =>
    rows.vms
      .filter(({ state }) => state === 'error')
      .map((vm) =>
        warning(`VM ${JSON.stringify(vm.name)}: ${vm.runtime.lastError ?? 'no reason was recorded'}`, {
          fix: `banger vm logs ${vm.name}; banger vm start ${vm.name} tries again`,
        }),
      ),
);

const unfinished = overRows(
  'vms.unfinished',
  'unfinished work on VMs',
  () => 'none',
  async (rows) => {
    if (rows.live) return [];
    return rows.vms.flatMap((vm) => {
      const what = vm.runtime.pending ?? (vm.spec.ephemeral ? 'ephemeral' : undefined);
      if (what === undefined) return [];
      const name = JSON.stringify(vm.name);
      const found = {
        create: `the creation of VM ${name} was interrupted`,
        delete: `the deletion of VM ${name} was interrupted`,
        ephemeral: `VM ${name} was made with --rm and is still there`,
      }[what];
      return [info(found, { fix: 'the next start of the daemon removes it' })];
    });
  },
);

const directories: Check<DoctorContext> = {
  id: 'vms.directories',
  group: 'vms',
  title: 'directories of VMs',
  timeoutMs: TIMEOUT_MS,
  run: async (context) => {
    const { vmsDir } = context.paths;
    const names = await listDir(vmsDir);
    // Rows after directories: a VM that is being created has its row first.
    const rows = await context.rowsNow();
    if (rows === undefined) return info('not looked at: the database cannot be read');
    const owned = new Set([...rows.vms.map(({ id }) => id), ...(await standbyIds(context))]);
    const outcomes: Outcome[] = [];
    for (const name of names.filter((one) => !owned.has(one))) {
      const dir = join(vmsDir, name);
      const facts = factsOf(dir);
      if (facts === undefined) continue;
      outcomes.push(await strangerOutcome(dir, name));
    }
    return orOk(outcomes, `${names.length}, each with its row`);
  },
};

async function strangerOutcome(dir: string, name: string): Promise<Outcome> {
  if (!/^[0-9a-f]{32}$/.test(name)) {
    return info(`${dir} is none of banger's`, { fix: 'move it away if it is yours' });
  }
  if (!(await hasVmRecord(dir))) {
    return warning(`${dir} belongs to no row of the database`, {
      fix: 'look whether you need its disk; the next start of the daemon removes it',
    });
  }
  const record = await readVmRecord(dir, name).catch(() => undefined);
  const who = record === undefined ? 'a VM' : `VM ${JSON.stringify(record.name)}`;
  return failure(`${who} in ${dir} has lost its row in the database`, { fix: 'banger state rebuild' });
}

export const VM_CHECKS: readonly Check<DoctorContext>[] = [
  processes,
  directories,
  disks,
  handles,
  saved,
  ...ORPHAN_CHECKS,
  errors,
  unfinished,
];
