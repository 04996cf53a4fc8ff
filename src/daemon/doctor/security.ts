/** Checks of who may read and change what is ours. */

import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { listDir } from '../../host/files.ts';
import { type Check, failure, ok, type Outcome, orOk, warning } from './check.ts';
import type { DoctorContext } from './context.ts';
import { factsOf, octal } from './host-facts.ts';
import { type Expected, modeProblem } from './modes.ts';

const TIMEOUT_MS = 15_000;
/** Beyond this many files per check the rest is not looked at; a home with more has other troubles. */
const MAX_FILES = 20_000;

type Item = readonly [path: string, expected: Expected];

const WHOSE = 'look who owns the directories above it, and set BANGER_HOME if they are not yours';
const DIRECTORY: Expected = { kind: 'directory', needed: false };
const FILE: Expected = { kind: 'file', needed: false };
const SOCKET: Expected = { kind: 'socket', needed: false };

function modes(
  id: `security.${string}`,
  title: string,
  items: (context: DoctorContext) => Promise<readonly Item[]> | readonly Item[],
): Check<DoctorContext> {
  return {
    id,
    group: 'security',
    title,
    timeoutMs: TIMEOUT_MS,
    run: async (context) => {
      const all = (await items(context)).slice(0, MAX_FILES);
      const problems: Outcome[] = [];
      const hidden: string[] = [];
      for (const [path, expected] of all) {
        try {
          problems.push(...[modeProblem(path, expected, context.host.uid) ?? []].flat());
        } catch {
          hidden.push(path);
        }
      }
      if (hidden.length > 0) problems.push(warning(`this user may not look at ${hidden[0]}`, { fix: WHOSE }));
      if (problems.length > 0) return problems;
      const there = all.filter(([path]) => factsOf(path) !== undefined).length;
      return ok(there === 0 ? 'none yet' : `${there}, as they should be`);
    },
  };
}

/** Names in a directory that may be missing, a link, or not ours to read: the check of the directory itself says so. */
async function within(dir: string): Promise<readonly string[]> {
  return (await listDir(dir).catch(() => [])).map((name) => join(dir, name));
}

const directories = modes('security.directories', 'directories', ({ paths }) => {
  const needed = { ...DIRECTORY, needed: true };
  const own = { ...DIRECTORY, mayBeLink: true };
  return [
    [paths.stateDir, needed],
    [paths.cacheDir, needed],
    [paths.runtimeDir, needed],
    ...[paths.vmsDir, paths.imagesDir, paths.kernelsDir, paths.templatesDir, paths.scratchDir].map(
      (dir): Item => [dir, own],
    ),
    [paths.initramfsDir, own],
    [paths.vmRuntimesDir, DIRECTORY],
  ];
});

/** SQLite gives what it makes beside a database the mode of the database. */
const stateFiles = modes('security.state-files', 'database, lock and log', async ({ paths, stateFile }) => {
  const needed = { ...FILE, needed: true, required: 0o600 };
  const beside = (await within(paths.stateDir)).filter((path) => path.startsWith(stateFile));
  return [
    ...beside.map((path): Item => [path, path === stateFile ? needed : FILE]),
    [paths.lockFile, needed],
    [`${paths.lockFile}.holder`, FILE],
    [paths.logFile, FILE],
    [`${paths.logFile}.1`, FILE],
    [paths.probeFile, { ...FILE, mayBeLink: true }],
  ];
});

const snapshots = modes('security.snapshots', 'snapshots', async ({ paths }) => {
  const dirs = [paths.snapshotsDir, join(paths.snapshotsDir, 'sha256'), join(paths.snapshotsDir, 'refs')];
  const files = await Promise.all(dirs.slice(1).map(within));
  return [...dirs.map((dir): Item => [dir, DIRECTORY]), ...files.flat().map((path): Item => [path, FILE])];
});

const sshKeys = modes('security.ssh-keys', 'SSH keys', async ({ paths }) => [
  [paths.sshDir, DIRECTORY],
  // Without it nobody gets in: a key that is open to others is not used.
  [join(paths.sshDir, 'id_ed25519'), { ...FILE, needed: true }],
  ...(await within(paths.sshDir))
    .filter((path) => !path.endsWith('.pub') && !path.endsWith('/id_ed25519'))
    .map((path): Item => [path, FILE]),
]);

/** Disks hold what users put into their VMs; consoles what it printed. */
const vmFiles = modes('security.vm-files', 'disks, logs and handles of VMs', async ({ paths }) => {
  const dirs = await within(paths.vmsDir);
  const files = await Promise.all(dirs.map(within));
  return [...dirs.map((dir): Item => [dir, DIRECTORY]), ...files.flat().map((path): Item => [path, FILE])];
});

const sockets = modes('security.sockets', 'sockets', async ({ paths }) => {
  const dirs = await within(paths.vmRuntimesDir);
  const inDirs = (await Promise.all(dirs.map(within))).flat();
  return [
    [paths.socketPath, SOCKET],
    [paths.streamSocketPath, SOCKET],
    ...dirs.map((dir): Item => [dir, DIRECTORY]),
    ...inDirs.filter((path) => path.endsWith('.sock')).map((path): Item => [path, SOCKET]),
  ];
});

/** It names the program that is run as this user; reading it is everybody's right. */
const configFile = modes('security.config-file', 'settings', ({ paths }) => {
  const open = { needed: true, mayBeLink: true, mayBeRoots: true, forbidden: 0o022 };
  return [
    [paths.configDir, { ...open, kind: 'directory', required: 0o500 }],
    [paths.configFile, { ...open, kind: 'file' }],
  ];
});

/** Whoever can rename a parent can put another directory in the place of ours. */
const parents: Check<DoctorContext> = {
  id: 'security.parents',
  group: 'security',
  title: 'parent directories',
  timeoutMs: TIMEOUT_MS,
  run: async ({ paths, host }) => {
    const chain = new Set<string>();
    for (const dir of [paths.runtimeDir, paths.stateDir, paths.cacheDir, paths.configDir]) {
      for (const parent of parentsOf(dir)) chain.add(parent);
    }
    const problems = [...chain].flatMap((dir) => parentProblem(dir, host.uid) ?? []);
    return orOk(problems, 'nobody else can rename what is ours');
  },
};

function parentsOf(path: string): readonly string[] {
  const found: string[] = [];
  let dir = dirname(path);
  try {
    dir = realpathSync(dir);
  } catch {
    // Not made yet: its own parents are looked at by name.
  }
  for (; ; dir = dirname(dir)) {
    found.push(dir);
    if (dir === dirname(dir)) return found;
  }
}

const STICKY = 0o1000;

function parentProblem(dir: string, uid: number): Outcome | undefined {
  const facts = factsOf(dir);
  if (facts === undefined || facts.kind === 'link') return undefined;
  if (facts.uid !== uid && facts.uid !== 0) {
    return warning(`${dir} belongs to uid ${facts.uid}, who can rename what is in it`, {
      fix: 'set BANGER_HOME to a directory whose parents are yours or root’s',
    });
  }
  if ((facts.mode & STICKY) !== 0 || (facts.mode & 0o022) === 0) return undefined;
  const who = (facts.mode & 0o002) === 0 ? 'its group' : 'everybody';
  const wrong = who === 'everybody' ? failure : warning;
  return wrong(`${who} can rename what is in ${dir} (mode ${octal(facts.mode)})`, {
    fix: `chmod go-w ${dir}`,
  });
}

const user: Check<DoctorContext> = {
  id: 'security.user',
  group: 'security',
  title: 'user',
  timeoutMs: 1000,
  run: async ({ env, host, paths }) => {
    const home = env['HOME'];
    const owner = home === undefined ? undefined : factsOf(home)?.uid;
    if (paths.home !== null || owner === undefined || owner === host.uid)
      return ok(`${host.userName} (uid ${host.uid})`);
    return warning(
      `this is uid ${host.uid}, and HOME (${home}) belongs to uid ${owner}: files made now are not theirs`,
      {
        fix: 'run banger as the user whose home it is, or set HOME (sudo -H)',
      },
    );
  },
};

export const SECURITY_CHECKS: readonly Check<DoctorContext>[] = [
  user,
  directories,
  stateFiles,
  snapshots,
  sshKeys,
  vmFiles,
  sockets,
  configFile,
  parents,
];
