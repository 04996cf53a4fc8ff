/**
 * Where everything lies: XDG directories, or all of them below BANGER_HOME.
 * The CLI loads this file at every start: it imports nothing heavier than node:fs and node:path.
 */

import { lstatSync, mkdirSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { BangerError, errorText } from '../core/errors.ts';
import { systemReason } from '../core/system-error.ts';

export interface BangerPaths {
  /** BANGER_HOME, when that decides all of the below. */
  readonly home: string | null;
  readonly configDir: string;
  readonly configFile: string;
  readonly stateDir: string;
  readonly stateDb: string;
  readonly vmsDir: string;
  readonly imagesDir: string;
  readonly kernelsDir: string;
  readonly snapshotsDir: string;
  /** Memory templates: frozen/template-store.ts. */
  readonly templatesDir: string;
  /** Snapshots of VMs: frozen/vm-snapshot-store.ts. */
  readonly vmSnapshotsDir: string;
  readonly sshDir: string;
  /** For ssh clients: daemon/services/guests/ssh-service.ts. */
  readonly sshConfigFile: string;
  /** Where builds work before their result is renamed into imagesDir or kernelsDir: the same file system. */
  readonly scratchDir: string;
  /** JSON lines of the daemon; its stdout and stderr too. */
  readonly logFile: string;
  /** Held by the one daemon of this state directory: see instance-lock.ts. */
  readonly lockFile: string;
  readonly cacheDir: string;
  readonly initramfsDir: string;
  /** Which accelerator and machine type worked here. */
  readonly probeFile: string;
  readonly runtimeDir: string;
  /** One directory of sockets per VM: see vmRuntimeDir. */
  readonly vmRuntimesDir: string;
  readonly socketPath: string;
  readonly streamSocketPath: string;
}

/** sizeof(sockaddr_un.sun_path) is 108 with the final NUL: unix(7). */
export const MAX_SOCKET_PATH_BYTES = 107;

/** Sockets a driver may bind in a VM's runtime directory have names no longer than this one. */
const LONGEST_VM_SOCKET = 'agent.sock';
const SHORT_ID_LENGTH = 12;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Pure: touches no file.
 * @throws {BangerError} `bad_request`: no HOME, a relative BANGER_HOME, or a runtime directory whose path leaves
 *   no room for the sockets in it
 */
export function resolvePaths(env: Environment, uid: number): BangerPaths {
  const base = baseDirs(env, uid);
  const paths: BangerPaths = {
    home: base.home,
    configDir: base.config,
    configFile: join(base.config, 'config.toml'),
    stateDir: base.state,
    stateDb: join(base.state, 'state.db'),
    vmsDir: join(base.state, 'vms'),
    imagesDir: join(base.state, 'images'),
    kernelsDir: join(base.state, 'kernels'),
    snapshotsDir: join(base.state, 'snapshots'),
    templatesDir: join(base.state, 'templates'),
    vmSnapshotsDir: join(base.state, 'vm-snapshots'),
    sshDir: join(base.state, 'ssh'),
    sshConfigFile: join(base.state, 'ssh', 'config'),
    scratchDir: join(base.state, 'scratch'),
    logFile: join(base.state, 'bangerd.log'),
    lockFile: join(base.state, 'bangerd.lock'),
    cacheDir: base.cache,
    initramfsDir: join(base.cache, 'initramfs'),
    probeFile: join(base.cache, 'probe.json'),
    runtimeDir: base.runtime,
    vmRuntimesDir: join(base.runtime, 'vm'),
    socketPath: join(base.runtime, 'bangerd.sock'),
    streamSocketPath: join(base.runtime, 'stream.sock'),
  };
  assertSocketPath(paths.socketPath);
  vmRuntimeDir(paths, '0'.repeat(SHORT_ID_LENGTH));
  return paths;
}

interface BaseDirs {
  readonly home: string | null;
  readonly config: string;
  readonly state: string;
  readonly cache: string;
  readonly runtime: string;
}

function baseDirs(env: Environment, uid: number): BaseDirs {
  const bangerHome = env['BANGER_HOME'];
  if (bangerHome !== undefined && bangerHome !== '') {
    if (!isAbsolute(bangerHome)) {
      throw new BangerError('bad_request', `BANGER_HOME must be an absolute path, not "${bangerHome}"`, {
        hint: `export BANGER_HOME="$PWD/${bangerHome}"`,
      });
    }
    const home = join(bangerHome, '.');
    return {
      home,
      config: join(home, 'config'),
      state: join(home, 'state'),
      cache: join(home, 'cache'),
      runtime: join(home, 'run'),
    };
  }
  const runtime = xdg(env, 'XDG_RUNTIME_DIR');
  const state = join(xdg(env, 'XDG_STATE_HOME') ?? join(userHome(env), '.local', 'state'), 'banger');
  return {
    home: null,
    config: join(xdg(env, 'XDG_CONFIG_HOME') ?? join(userHome(env), '.config'), 'banger'),
    state,
    cache: join(xdg(env, 'XDG_CACHE_HOME') ?? join(userHome(env), '.cache'), 'banger'),
    runtime:
      runtime === undefined
        ? `/tmp/banger-runtime-${uid}-${tagOf(state)}`
        : join(runtime, `banger-${tagOf(state)}`),
  };
}

/**
 * Eight hex digits of a state directory's path (FNV-1a): the runtime directory outlives HOME, and a command must not find the
 * daemon of another state directory in it.
 */
export function tagOf(stateDir: string): string {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(stateDir)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, '0');
}

/** The XDG base directory specification says: a relative path is invalid and must be ignored. */
function xdg(env: Environment, variable: string): string | undefined {
  const value = env[variable];
  return value !== undefined && isAbsolute(value) ? value : undefined;
}

function userHome(env: Environment): string {
  const home = env['HOME'];
  if (home === undefined || !isAbsolute(home)) {
    throw new BangerError('bad_request', 'HOME is not set to an absolute path', {
      hint: 'set HOME, or BANGER_HOME to a directory for all of banger’s files',
    });
  }
  return home;
}

/** A VM's durable directory: disks, logs, handles.json. */
export function vmDir(paths: BangerPaths, id: string): string {
  return join(paths.vmsDir, id);
}

/** A VM's directory for sockets. Named by the short id, because socket paths are limited to 107 bytes. */
export function vmRuntimeDir(paths: BangerPaths, id: string): string {
  const dir = join(paths.vmRuntimesDir, id.slice(0, SHORT_ID_LENGTH));
  assertSocketPath(join(dir, LONGEST_VM_SOCKET));
  return dir;
}

/** @throws {BangerError} `bad_request` naming the path, its length and the way out */
export function assertSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_SOCKET_PATH_BYTES) return;
  throw new BangerError(
    'bad_request',
    `the socket path "${path}" is ${bytes} bytes long; Unix allows ${MAX_SOCKET_PATH_BYTES}`,
    { hint: 'set BANGER_HOME (or, without it, XDG_RUNTIME_DIR) to a directory with a shorter path' },
  );
}

/**
 * Makes a directory that only this user can enter, with missing parents (0700 too), or checks that it is one.
 * Never changes what is there: somebody else may have put it there on purpose.
 * @throws {BangerError} `permission`: a symlink, not a directory, another owner, or open to others; `io_error`
 */
export function ensurePrivateDir(path: string): void {
  makeDir(path);
  const stat = lstatSync(path);
  const uid = process.geteuid?.();
  if (stat.isSymbolicLink()) throw unsafe(path, 'is a symbolic link', `remove it: rm ${path}`);
  if (!stat.isDirectory()) throw unsafe(path, 'is not a directory', `move it away: mv ${path} ${path}.old`);
  if (stat.uid !== uid) {
    throw unsafe(
      path,
      `belongs to uid ${stat.uid}, not to uid ${uid}`,
      'set BANGER_HOME to another directory',
    );
  }
  if ((stat.mode & 0o077) !== 0) {
    const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0');
    throw unsafe(path, `is open to other users (mode ${mode})`, `chmod 700 ${path}`);
  }
}

function makeDir(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EEXIST' && existsInAnyForm(path)) return;
    const denied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS';
    const message = `cannot make the directory ${path}: ${systemReason(error) ?? errorText(error)}`;
    throw new BangerError(denied ? 'permission' : 'io_error', message, {
      hint: 'check its parent directories, or set BANGER_HOME to a directory you can write to',
      cause: error,
    });
  }
}

/** EEXIST may also be about a parent that is a file. */
function existsInAnyForm(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

function unsafe(path: string, why: string, hint: string): BangerError {
  return new BangerError('permission', `refusing to use ${path}: it ${why}`, { hint });
}
