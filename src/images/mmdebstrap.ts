/** Runs mmdebstrap: Debian packages into a tar of a root file system, as root or as an ordinary user. */

import { readFile, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import type { CommandRunner } from '../host/runner.ts';
import { type AptSource, formatSources } from './apt-sources.ts';
import { DPKG_EXCLUDES } from './debian-recipe.ts';
import { MmdebstrapProgress } from './mmdebstrap-progress.ts';
import { asNoSpace, isNoSpaceText } from './no-space.ts';
import type { OnImageProgress } from './progress.ts';
import { requireTools, toolEnv } from './tools.ts';

export interface MmdebstrapOptions {
  readonly release: string;
  readonly packages: readonly string[];
  readonly sources: readonly AptSource[];
  /** Where mmdebstrap unpacks: see build-space.ts. */
  readonly workDir: string;
  /** Receives the tar, in a directory of the caller's. */
  readonly tarPath: string;
  /** Existing directory for the sources file. */
  readonly scratchDir: string;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
  readonly onProgress: OnImageProgress;
}

const TIMEOUT_SECONDS = 60 * 60;
/** mmdebstrap unmounts and removes its chroot when it is told to end; that takes seconds on a slow disk. */
const KILL_AFTER_SECONDS = 30;
const SUBORDINATE_IDS_NEEDED = 65536;

/**
 * Makes sure that mmdebstrap can work here, without running it.
 * @throws {BangerError} `dependency_missing` with the command that provides what is missing
 */
export async function requireMmdebstrap(): Promise<void> {
  const isRoot = process.getuid?.() === 0;
  const uidmap = ['newuidmap', 'newgidmap'].map((program) => ({ program, packageName: 'uidmap' }));
  await requireTools([
    { program: 'mmdebstrap', packageName: 'mmdebstrap' },
    { program: 'apt-get', packageName: 'apt' },
    ...(isRoot ? [] : uidmap),
  ]);
  if (isRoot) return;
  const { username, uid } = userInfo();
  for (const path of ['/etc/subuid', '/etc/subgid']) {
    if (hasSubordinateIds(await readFile(path, 'utf8').catch(() => ''), username, uid)) continue;
    throw new BangerError('dependency_missing', `user ${username} has no subordinate ids in ${path}`, {
      hint: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${username}`,
    });
  }
}

/** subuid(5): `name-or-uid:first:count`, a range large enough for a root file system. */
export function hasSubordinateIds(text: string, username: string, uid: number): boolean {
  return text.split('\n').some((line) => {
    const [owner, , count] = line.split(':');
    return (owner === username || owner === String(uid)) && Number(count) >= SUBORDINATE_IDS_NEEDED;
  });
}

/** @throws {BangerError} `build_failed` with mmdebstrap's last words, `no_space`, `cancelled`, `timeout`, `dependency_missing` */
export async function runMmdebstrap(options: MmdebstrapOptions): Promise<void> {
  const sourcesPath = join(options.scratchDir, 'debian.sources');
  await writeFile(sourcesPath, formatSources(options.sources, { indexOnly: false }));
  const progress = new MmdebstrapProgress(options.onProgress);
  try {
    await options.runner.run(argv(options, sourcesPath), {
      cwd: options.workDir,
      // HOME: dpkg would look for its settings in a home directory that the mapped root cannot enter.
      env: { ...toolEnv(), TMPDIR: options.workDir, HOME: options.workDir },
      signal: options.signal,
      timeoutMs: TIMEOUT_SECONDS * 1000,
      killAfterMs: (KILL_AFTER_SECONDS + 10) * 1000,
      maxOutputBytes: 64 * 1024 * 1024,
      onStderrLine: (line) => progress.line(line),
    });
  } catch (error) {
    throw explain(error, progress.trouble, options);
  }
}

function argv(options: MmdebstrapOptions, sourcesPath: string): readonly [string, ...string[]] {
  return [
    // The main process of mmdebstrap only waits for the others when it gets a signal: Ctrl-C on a terminal reaches them
    // all. timeout(1) makes a process group and passes our signal to all of it.
    ...(['timeout', `--kill-after=${KILL_AFTER_SECONDS}`, String(TIMEOUT_SECONDS)] as const),
    'mmdebstrap',
    '--verbose',
    '--mode=auto',
    '--variant=minbase',
    '--format=tar',
    `--include=${options.packages.join(',')}`,
    ...DPKG_EXCLUDES.map((line) => `--dpkgopt=${line}`),
    // Nothing of the build is kept when it is interrupted: no need to wait for the disk at every file.
    '--dpkgopt=force-unsafe-io',
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Acquire::Retries "3"',
    '--aptopt=APT::Install-Recommends "false"',
    options.release,
    options.tarPath,
    sourcesPath,
  ];
}

function explain(error: unknown, trouble: readonly string[], options: MmdebstrapOptions): unknown {
  if (!(error instanceof BangerError) || error.code !== 'io_error') return error;
  const words = trouble.join('\n');
  if (isNoSpaceText(`${words}\n${error.message}`)) return asNoSpace(options.workDir, error);
  const isNamespace = /unshare|newuidmap|CLONE_NEW|Operation not permitted/.test(words);
  return new BangerError('build_failed', `mmdebstrap failed: ${words === '' ? error.message : words}`, {
    cause: error,
    hint: isNamespace
      ? 'this host may forbid user namespaces: run the build once as root, or allow them (sysctl kernel.apparmor_restrict_unprivileged_userns=0)'
      : 'check the network and the mirror, then run the command again',
  });
}
