/** Where the checks of the host look: a parameter, so that a test can stand on another host. */

import { lstatSync, type Stats } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { release, type UserInfo, userInfo } from 'node:os';
import { cpuCount, hostMemoryMib } from '../../host/proc.ts';

export interface HostFacts {
  /** As `process.platform` and `process.arch`. */
  readonly platform: string;
  readonly arch: string;
  readonly kernelRelease: string;
  readonly nodeVersion: string;
  readonly sqliteVersion: string;
  readonly uid: number;
  readonly userName: string;
  /** As the user database has it, which ssh(1) asks, and not HOME. Null: it has no entry. */
  readonly homeDir: string | null;
  readonly procDir: string;
  readonly etcDir: string;
  readonly kvmPath: string;
  /** Parent of the private directory of a probe boot; short, because sockets lie in it. */
  readonly tmpDir: string;
  /** Where images are put together. */
  readonly buildDir: string;
  readonly cpus: number;
  readonly memoryMib: number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** statfs(2). */
  readonly statfs: (path: string) => Promise<FileSystemFacts>;
}

/** Numbers of statfs(2); zero `files` means that the file system has no table of inodes. */
export interface FileSystemFacts {
  readonly bsize: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
}

export function thisHost(): HostFacts {
  const uid = process.geteuid?.() ?? 0;
  const user = userEntry();
  return {
    platform: process.platform,
    arch: process.arch,
    kernelRelease: release(),
    nodeVersion: process.versions.node,
    sqliteVersion: process.versions['sqlite'] ?? '',
    uid,
    // A uid without an entry has a number for a name.
    userName: user?.username ?? String(uid),
    homeDir: user?.homedir ?? null,
    procDir: '/proc',
    etcDir: '/etc',
    kvmPath: '/dev/kvm',
    tmpDir: '/tmp',
    buildDir: '/var/tmp',
    cpus: cpuCount(),
    memoryMib: hostMemoryMib(),
    now: Date.now,
    statfs,
  };
}

/** In the user database; undefined: it has no entry for this uid. */
function userEntry(): UserInfo<string> | undefined {
  try {
    return userInfo();
  } catch {
    return undefined;
  }
}

/** What the checks want to know of a file; never opens it, never follows a link at its end. */
export interface FileFacts {
  readonly path: string;
  readonly kind: 'file' | 'directory' | 'link' | 'socket' | 'other';
  readonly uid: number;
  /** Permission bits, with set-id and sticky. */
  readonly mode: number;
  readonly sizeBytes: number;
  readonly dev: number;
  readonly ino: number;
  readonly mtimeMs: number;
}

/** Undefined when there is nothing. @throws the system's error when it cannot be told (EACCES …) */
export function factsOf(path: string): FileFacts | undefined {
  let stat: Stats;
  try {
    stat = lstatSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
  const { uid, mode, size, dev, ino, mtimeMs } = stat;
  return { path, kind: kindOf(stat), uid, mode: mode & 0o7777, sizeBytes: size, dev, ino, mtimeMs };
}

function kindOf(stat: Stats): FileFacts['kind'] {
  if (stat.isSymbolicLink()) return 'link';
  if (stat.isDirectory()) return 'directory';
  if (stat.isFile()) return 'file';
  return stat.isSocket() ? 'socket' : 'other';
}

/** `0644` */
export function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}
