/** Checks of the daemon: whether it answers, what it holds, what it has written. Not running is fine. */

import { constants } from 'node:fs';
import { access, open } from 'node:fs/promises';
import { errorText } from '../../core/errors.ts';
import { systemReason } from '../../core/system-error.ts';
import { formatSize, MIB } from '../../core/units.ts';
import { readJsonFile } from '../../host/files.ts';
import { processesWithOpen } from '../../state/open-elsewhere.ts';
import { type Check, failure, info, ok, type Outcome, orOk, warning } from './check.ts';
import type { DoctorContext } from './context.ts';
import { factsOf } from './host-facts.ts';
import { names } from './names.ts';
import { isServed, removeSocket } from './sockets.ts';

const answers: Check<DoctorContext> = {
  id: 'daemon.answers',
  group: 'daemon',
  title: 'daemon',
  timeoutMs: 10_000,
  run: async (context) => {
    const daemon = await context.daemon();
    switch (daemon.kind) {
      case 'absent':
      case 'stale':
        return info('not running; commands that need it start it');
      case 'answers':
        return ok(`pid ${daemon.hello.pid}, version ${daemon.hello.version}`);
      case 'unusable': {
        const { code, message, hint } = daemon.error;
        const fix = hint ?? 'banger daemon logs; banger daemon stop';
        return (code === 'version_mismatch' ? warning : failure)(message, { fix });
      }
    }
  },
};

const socket: Check<DoctorContext> = {
  id: 'daemon.socket',
  group: 'daemon',
  title: 'sockets of the daemon',
  timeoutMs: 5000,
  run: async ({ paths, host }) => {
    const problems: Outcome[] = [];
    for (const path of [paths.socketPath, paths.streamSocketPath]) {
      const facts = factsOf(path);
      if (facts === undefined) continue;
      if (facts.kind !== 'socket') {
        problems.push(
          failure(`${path} is in the way: it is not a socket`, { fix: `mv ${path} ${path}.old` }),
        );
      } else if (!(await isServed(path))) {
        const repair = facts.uid === host.uid ? { repair: removeSocket(path, host.uid) } : {};
        const fix = 'harmless: the next start of the daemon replaces it';
        problems.push(warning(`${path} was left by a daemon that is gone`, { fix, ...repair }));
      }
    }
    return orOk(problems, 'none that nobody serves');
  },
};

interface Holder {
  readonly pid: number;
  readonly socketPath: string | undefined;
}

const HOLDER_MAX_BYTES = 64 * 1024;

/** The process that has the lock file open, other than this one, with what is written beside the lock. */
async function holderOf({ paths }: DoctorContext): Promise<Holder | undefined> {
  const pid = processesWithOpen([paths.lockFile]).find((one) => one !== process.pid);
  if (pid === undefined) return undefined;
  const value = await readJsonFile(`${paths.lockFile}.holder`, HOLDER_MAX_BYTES).catch(() => undefined);
  const written = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  const socketPath = written['pid'] === pid ? written['socketPath'] : undefined;
  return { pid, socketPath: typeof socketPath === 'string' ? socketPath : undefined };
}

const lock: Check<DoctorContext> = {
  id: 'daemon.lock',
  group: 'daemon',
  title: 'instance lock',
  timeoutMs: 10_000,
  run: async (context) => {
    const { paths } = context;
    const daemon = await context.daemon();
    const holder = await holderOf(context);
    if (daemon.kind === 'answers') {
      const { stateDir } = await daemon.client.call('daemon.status', {});
      if (stateDir === paths.stateDir) return ok(`held by the daemon, pid ${daemon.hello.pid}`);
      return warning(`the daemon that answers works on ${stateDir}, not on ${paths.stateDir}`, {
        fix: 'give each state directory sockets of its own: set BANGER_HOME',
      });
    }
    if (holder === undefined) return ok('free');
    const { pid, socketPath } = holder;
    if (socketPath !== undefined && socketPath !== paths.socketPath) {
      return warning(
        `a daemon (pid ${pid}) works on ${paths.stateDir} and answers on ${socketPath}, not on ${paths.socketPath}`,
        { fix: 'use the XDG_RUNTIME_DIR (or BANGER_HOME) it was started with, or end it: ' + `kill ${pid}` },
      );
    }
    return warning(`pid ${pid} holds ${paths.lockFile} and nobody answers: it starts, stops, or hangs`, {
      fix: `look again in a moment; if it stays so: kill ${pid} (VMs keep running)`,
    });
  },
};

/** The daemon moves a log of 8 MiB away when it starts; one this large grows faster than it should. */
const LOG_LARGE_BYTES = 256 * MIB;

const log: Check<DoctorContext> = {
  id: 'daemon.log',
  group: 'daemon',
  title: 'log',
  timeoutMs: 2000,
  run: async ({ paths }) => {
    const { logFile } = paths;
    const facts = factsOf(logFile);
    if (facts === undefined) return ok('none yet');
    if (facts.kind !== 'file') {
      return failure(`${logFile} is not a regular file`, { fix: `mv ${logFile} ${logFile}.old` });
    }
    try {
      await access(logFile, constants.R_OK | constants.W_OK);
    } catch (error) {
      return failure(`${logFile} cannot be read and written: ${systemReason(error)}`, {
        fix: `look at its owner and mode: ls -l ${logFile}`,
      });
    }
    const found = `${logFile}, ${formatSize(facts.sizeBytes)}`;
    if (facts.sizeBytes <= LOG_LARGE_BYTES) return ok(found);
    return warning(found, {
      fix: 'banger daemon logs shows what fills it; banger daemon stop, and the next start rotates it',
    });
  },
};

const TAIL_BYTES = 64 * 1024;

/** Of a daemon that could not start, and of what it could not do since its last start. */
const lastFailure: Check<DoctorContext> = {
  id: 'daemon.last-failure',
  group: 'daemon',
  title: 'last failure',
  timeoutMs: 5000,
  run: async ({ paths }) => {
    const facts = factsOf(paths.logFile);
    if (facts?.kind !== 'file') return ok('none');
    try {
      const last = lastError(await tailOf(paths.logFile, facts.sizeBytes));
      return last === undefined ? ok('none') : info(last, { fix: 'banger daemon logs' });
    } catch (error) {
      return info(`the log cannot be read: ${errorText(error)}`);
    }
  },
};

async function tailOf(path: string, sizeBytes: number): Promise<readonly string[]> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const start = Math.max(0, sizeBytes - TAIL_BYTES);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(TAIL_BYTES), 0, TAIL_BYTES, start);
  const lines = buffer.toString('utf8', 0, bytesRead).split('\n');
  // The first line of a tail begins somewhere in the middle.
  return start === 0 ? lines : lines.slice(1);
}

const MAX_ERROR_TEXT = 400;

/** The last error since the daemon last served. Lines of its own stderr are plain text and begin with its name. */
function lastError(lines: readonly string[]): string | undefined {
  for (const line of [...lines].reverse()) {
    if (line.startsWith('bangerd: ')) return line.slice(0, MAX_ERROR_TEXT);
    const fields = parsed(line);
    if (fields['msg'] === 'serving') return undefined;
    if (fields['level'] !== 'error' && fields['level'] !== 'fatal') continue;
    const cause = fields['err'] as { message?: unknown } | undefined;
    const why = typeof cause?.message === 'string' ? `: ${cause.message}` : '';
    return `${String(fields['time'])}: ${String(fields['msg'])}${why}`.slice(0, MAX_ERROR_TEXT);
  }
  return undefined;
}

function parsed(line: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

export const DAEMON_CHECKS: readonly Check<DoctorContext>[] = [
  answers,
  socket,
  lock,
  log,
  lastFailure,
  names,
];
