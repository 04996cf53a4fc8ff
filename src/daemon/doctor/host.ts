/** Checks of the host: what runs banger, and the programs it runs. */

import { open } from 'node:fs/promises';
import { BangerError, errorText } from '../../core/errors.ts';
import { toolEnv } from '../../images/tools.ts';
import { isAtLeast } from '../../store/open.ts';
import { FIRECRACKER, inspectFirecracker, USABLE_VERSIONS } from '../../vmm/firecracker/program.ts';
import { inspectQemu } from '../../vmm/qemu/program.ts';
import { vmmProgramOf } from '../drivers.ts';
import { type Check, failure, info, ok, type Outcome, warning } from './check.ts';
import { agentPath, type DoctorContext } from './context.ts';
import { factsOf } from './host-facts.ts';
import { HOST_RESOURCE_CHECKS } from './host-resources.ts';
import { HOST_VIRTUALISATION_CHECKS } from './host-virtualisation.ts';

/** The oldest that is tested. */
const MIN_QEMU = [7, 2] as const;
const MIN_NODE = [24] as const;
/** Older ones can corrupt a database: store/open.ts. */
const MIN_SQLITE = [3, 51, 3] as const;
const VERSION_TIMEOUT_MS = 5000;
const VERSION_MAX_BYTES = 256 * 1024;

interface Program {
  readonly name: string;
  /** Debian package that has it. */
  readonly packageName: string;
  readonly versionFlag: string;
  /** What it is for, where banger does without it. */
  readonly optional?: string;
}

const PROGRAMS: readonly Program[] = [
  { name: 'qemu-img', packageName: 'qemu-utils', versionFlag: '--version' },
  { name: 'mmdebstrap', packageName: 'mmdebstrap', versionFlag: '--version' },
  { name: 'apt-get', packageName: 'apt', versionFlag: '--version' },
  { name: 'mke2fs', packageName: 'e2fsprogs', versionFlag: '-V' },
  { name: 'debugfs', packageName: 'e2fsprogs', versionFlag: '-V' },
  { name: 'e2fsck', packageName: 'e2fsprogs', versionFlag: '-V' },
  { name: 'git', packageName: 'git', versionFlag: '--version' },
  { name: 'xz', packageName: 'xz-utils', versionFlag: '--version' },
  {
    name: 'ssh',
    packageName: 'openssh-client',
    versionFlag: '-V',
    optional: 'vm ssh needs it, nothing else does',
  },
];

const architecture: Check<DoctorContext> = {
  id: 'host.architecture',
  group: 'host',
  title: 'architecture',
  timeoutMs: 1000,
  run: async ({ host }) => {
    if (host.platform === 'linux' && host.arch === 'x64') return ok('x86_64');
    return failure(`${host.platform} on ${host.arch}; banger runs on Linux on x86_64 only`, {
      fix: 'use an x86_64 Linux host',
    });
  },
};

const kernel: Check<DoctorContext> = {
  id: 'host.kernel',
  group: 'host',
  title: 'kernel',
  timeoutMs: 1000,
  run: async ({ host }) => {
    const version = /^\d+\.\d+/.exec(host.kernelRelease)?.[0];
    if (version === undefined) return warning(`the kernel's release "${host.kernelRelease}" is no version`);
    return ok(host.kernelRelease);
  },
};

const runtime: Check<DoctorContext> = {
  id: 'host.runtime',
  group: 'host',
  title: 'Node.js and SQLite',
  timeoutMs: 1000,
  run: async ({ host: { nodeVersion, sqliteVersion } }) => {
    const found = `Node.js ${nodeVersion}, SQLite ${sqliteVersion}`;
    const fix = 'run banger on the Node.js it ships with: npm ci';
    if (!isAtLeast(sqliteVersion, MIN_SQLITE)) {
      return failure(`${found}; SQLite before ${MIN_SQLITE.join('.')} can corrupt a database`, { fix });
    }
    if (!isAtLeast(nodeVersion, MIN_NODE))
      return failure(`${found}; Node.js ${MIN_NODE[0]} is needed`, { fix });
    return ok(found);
  },
};

const qemu: Check<DoctorContext> = {
  id: 'host.qemu',
  group: 'host',
  title: 'QEMU',
  timeoutMs: 20_000,
  run: async (context, signal) => {
    const config = await context.configOrDefault();
    const program = vmmProgramOf(config, 'qemu');
    const fix = 'sudo apt-get install qemu-system-x86';
    try {
      const { version, machines } = await inspectQemu(context.runner, program, signal);
      if (machines.size === 0) {
        return failure(`QEMU ${version} has neither of the machine types banger uses: microvm, q35`, { fix });
      }
      if (!isAtLeast(version, MIN_QEMU)) {
        return warning(`QEMU ${version} is older than ${MIN_QEMU.join('.')}, the oldest that is tested`, {
          fix,
        });
      }
      return ok(`QEMU ${version} (${[...machines].sort().join(', ')})`);
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      const missing = error.code === 'dependency_missing';
      if (missing && config.driver !== 'qemu') return info('not installed, and not used: see driver');
      return failure(missing ? `${program} is not installed` : errorText(error), { fix });
    }
  },
};

/** What a daemon does without when this is its driver. */
const FIRECRACKER_LACKS = 'VMs have no network (--nat), and their disks are copies';

const firecracker: Check<DoctorContext> = {
  id: 'host.firecracker',
  group: 'host',
  title: 'Firecracker',
  timeoutMs: 20_000,
  run: async (context, signal) => {
    const config = await context.configOrDefault();
    if (config.driver !== 'firecracker') return ok('not used: driver is "qemu"');
    const program = vmmProgramOf(config, 'firecracker');
    try {
      const version = await inspectFirecracker(context.runner, program, signal);
      return info(`Firecracker ${version} (usable: ${USABLE_VERSIONS}); ${FIRECRACKER_LACKS}`);
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      const missing = error.code === 'dependency_missing';
      const fix = missing ? FIRECRACKER.installHint : (error.hint ?? 'driver = "qemu" in config.toml');
      return failure(missing ? `${program} is not installed` : errorText(error), { fix });
    }
  },
};

const programs: Check<DoctorContext> = {
  id: 'host.programs',
  group: 'host',
  title: 'programs',
  timeoutMs: 20_000,
  run: async (context, signal) => {
    const found: string[] = [];
    const problems: Outcome[] = [];
    const missing: Program[] = [];
    for (const program of PROGRAMS) {
      const answer = await versionOf(program, context, signal);
      if (answer.kind === 'version') found.push(`${program.name} ${answer.version}`);
      else if (answer.kind === 'broken') problems.push(broken(program, answer.why));
      else if (program.optional === undefined) missing.push(program);
      else problems.push(info(`${program.name} is not installed; ${program.optional}`));
    }
    if (missing.length > 0) {
      const packages = [...new Set(missing.map(({ packageName }) => packageName))].join(' ');
      const names = missing.map(({ name }) => name).join(', ');
      problems.unshift(failure(`not installed: ${names}`, { fix: `sudo apt-get install ${packages}` }));
    }
    return [...(found.length === 0 ? [] : [ok(found.join(', '))]), ...problems];
  },
};

type VersionAnswer =
  | { readonly kind: 'version'; readonly version: string }
  | { readonly kind: 'missing' }
  | { readonly kind: 'broken'; readonly why: string };

async function versionOf(
  { name, versionFlag }: Program,
  { runner }: DoctorContext,
  signal: AbortSignal,
): Promise<VersionAnswer> {
  try {
    const { stdout, stderr } = await runner.run([name, versionFlag], {
      env: toolEnv(),
      cwd: '/',
      signal,
      timeoutMs: VERSION_TIMEOUT_MS,
      maxOutputBytes: VERSION_MAX_BYTES,
    });
    // Some print it on stderr.
    const version = /\d+\.\d+(?:\.\d+)*\w*/.exec(`${stdout.toString('utf8')}\n${stderr}`)?.[0];
    return version === undefined
      ? { kind: 'broken', why: 'it names no version' }
      : { kind: 'version', version };
  } catch (error) {
    if (error instanceof BangerError && error.code === 'dependency_missing') return { kind: 'missing' };
    return { kind: 'broken', why: errorText(error) };
  }
}

function broken({ name, versionFlag, packageName, optional }: Program, why: string): Outcome {
  const found = `${name} is installed, but "${name} ${versionFlag}" failed: ${why}`;
  const fix = `sudo apt-get install --reinstall ${packageName}`;
  return (optional === undefined ? warning : info)(found, { fix });
}

/** Part of the installation that no package manager looks after. */
const guestAgent: Check<DoctorContext> = {
  id: 'host.guest-agent',
  group: 'host',
  title: 'guest agent',
  timeoutMs: 2000,
  run: async (context) => {
    const path = agentPath(context);
    const fix = 'npm run build';
    const facts = factsOf(path);
    if (facts === undefined)
      return failure(`${path} is missing: no guest can be started without it`, { fix });
    if (facts.kind !== 'file' || !(await isElf(path))) return failure(`${path} is no program`, { fix });
    return ok(`${path}, ${facts.sizeBytes} bytes`);
  },
};

/** elf(5): the magic number. */
async function isElf(path: string): Promise<boolean> {
  await using file = await open(path, 'r');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
  return bytesRead === 4 && buffer.toString('latin1') === '\x7fELF';
}

export const HOST_CHECKS: readonly Check<DoctorContext>[] = [
  architecture,
  kernel,
  runtime,
  qemu,
  firecracker,
  programs,
  guestAgent,
  ...HOST_VIRTUALISATION_CHECKS,
  ...HOST_RESOURCE_CHECKS,
];
