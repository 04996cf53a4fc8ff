/** Checks of what the host has left: disk, memory, descriptors, time. */

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GIB, MIB, formatSize } from '../../core/units.ts';
import { type Check, failure, info, ok, type Outcome, orOk, warning } from './check.ts';
import type { DoctorContext } from './context.ts';
import { factsOf } from './host-facts.ts';

interface Place {
  readonly name: string;
  readonly path: string;
  /** Bytes below which it is a warning, and a failure. */
  readonly warnBelow: number;
  readonly failBelow: number;
}

/** State holds disks and images; the cache some MB for each kernel; the runtime directory sockets and a probe's console. */
function places({ paths, host }: DoctorContext): readonly Place[] {
  return [
    { name: 'state', path: paths.stateDir, warnBelow: 5 * GIB, failBelow: 500 * MIB },
    { name: 'cache', path: paths.cacheDir, warnBelow: 500 * MIB, failBelow: 50 * MIB },
    { name: 'runtime', path: paths.runtimeDir, warnBelow: 32 * MIB, failBelow: 4 * MIB },
    // mmdebstrap unpacks there; VMs do not need it.
    { name: 'image builds', path: host.buildDir, warnBelow: GIB, failBelow: 0 },
  ];
}

/** The directory itself may not exist before the first start. */
function nearestExisting(path: string): string {
  let dir = path;
  while (!existsSync(dir) && dir !== dirname(dir)) dir = dirname(dir);
  return dir;
}

const MIN_INODES = { warn: 20_000, fail: 1000 } as const;

const diskSpace: Check<DoctorContext> = {
  id: 'host.disk-space',
  group: 'host',
  title: 'disk space',
  timeoutMs: 5000,
  run: async (context) => {
    const outcomes: Outcome[] = [];
    for (const { name, path, warnBelow, failBelow } of places(context)) {
      const { bavail, bsize } = await context.host.statfs(nearestExisting(path));
      const free = bavail * bsize;
      const found = `${formatSize(Math.floor(free))} free for ${name} (${path})`;
      const fix = 'df -h shows what is full; banger vm prune deletes VMs that do not run';
      if (free < failBelow) outcomes.push(failure(found, { fix }));
      else if (free < warnBelow) outcomes.push(warning(found, { fix }));
      else outcomes.push(ok(found));
    }
    return outcomes;
  },
};

const inodes: Check<DoctorContext> = {
  id: 'host.inodes',
  group: 'host',
  title: 'inodes',
  timeoutMs: 5000,
  run: async (context) => {
    const problems: Outcome[] = [];
    for (const { name, path } of places(context)) {
      const { files, ffree } = await context.host.statfs(nearestExisting(path));
      // Some file systems have no table of them: statfs(2) says 0.
      if (files === 0 || ffree >= MIN_INODES.warn) continue;
      const severity = ffree < MIN_INODES.fail ? failure : warning;
      const found = `${ffree} inodes free for ${name} (${path})`;
      problems.push(severity(found, { fix: 'df -i shows which file system has too many files' }));
    }
    return orOk(problems, 'enough everywhere');
  },
};

const MIN_MEMORY = { warnMib: 1024, failMib: 256 } as const;

const memory: Check<DoctorContext> = {
  id: 'host.memory',
  group: 'host',
  title: 'memory',
  timeoutMs: 2000,
  run: async ({ host }) => {
    const text = await readFile(join(host.procDir, 'meminfo'), 'utf8');
    const availableKib = Number(/^MemAvailable:\s+(\d+) kB$/m.exec(text)?.[1] ?? Number.NaN);
    if (Number.isNaN(availableKib)) return warning(`${host.procDir}/meminfo does not say what is available`);
    const availableMib = Math.min(Math.floor(availableKib / 1024), host.memoryMib);
    const found = `${availableMib} MiB of ${host.memoryMib} MiB available, ${host.cpus} CPUs`;
    const fix = 'banger vm stop ends VMs that are not needed';
    if (availableMib < MIN_MEMORY.failMib) return failure(found, { fix });
    return availableMib < MIN_MEMORY.warnMib ? warning(found, { fix }) : ok(found);
  },
};

const MIN_FILES = { warn: 1024, fail: 128 } as const;

const limits: Check<DoctorContext> = {
  id: 'host.limits',
  group: 'host',
  title: 'limits',
  timeoutMs: 2000,
  run: async ({ host }) => {
    const text = await readFile(join(host.procDir, 'self', 'limits'), 'utf8');
    // proc(5): name, soft limit, hard limit. Node raises its soft limit to the hard one.
    const soft = /^Max open files\s+(\S+)/m.exec(text)?.[1];
    if (soft === undefined) return warning('the limit of open files is not known');
    const files = soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
    const found = `at most ${soft} open files`;
    const fix = 'ulimit -Hn, or LimitNOFILE= of the service, must allow more';
    if (files < MIN_FILES.fail) return failure(found, { fix });
    return files < MIN_FILES.warn ? warning(found, { fix }) : ok(found);
  },
};

/** Before this program was written. */
const EARLIEST = Date.UTC(2026, 0, 1);
const SKEW_MS = 60 * 60_000;

const clock: Check<DoctorContext> = {
  id: 'host.clock',
  group: 'host',
  title: 'clock',
  timeoutMs: 2000,
  run: async ({ host, paths }) => {
    const now = host.now();
    const shown = new Date(now).toISOString();
    const fix = 'timedatectl set-ntp true';
    if (now < EARLIEST) {
      return failure(`it is ${shown}, says the clock: signatures of packages will not be valid`, { fix });
    }
    const written = [paths.stateDir, paths.logFile, paths.vmsDir].map((path) => factsOf(path)?.mtimeMs ?? 0);
    const latest = Math.max(...written);
    if (latest <= now + SKEW_MS) return ok(shown);
    return info(
      `it is ${shown}, and files of banger are from ${new Date(latest).toISOString()}: it went back`,
      { fix },
    );
  },
};

export const HOST_RESOURCE_CHECKS: readonly Check<DoctorContext>[] = [
  diskSpace,
  inodes,
  memory,
  limits,
  clock,
];
