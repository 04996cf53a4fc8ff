/** A directory of this host in the place of a guest: the same programs with the same arguments, run here. */

import { spawn } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { BangerError } from '../../src/core/errors.ts';
import type {
  GuestProgram,
  GuestProgramLimits,
  GuestProgramResult,
  GuestPrograms,
} from '../../src/workspace/guest-programs.ts';

export class LocalGuest implements GuestPrograms {
  /** What has been run, by its words without git's settings. */
  readonly calls: string[] = [];
  /** Called before each program. */
  onRun: (call: string) => void = () => undefined;

  async run(program: GuestProgram, limits: GuestProgramLimits): Promise<GuestProgramResult> {
    const call = program.argv.filter((word, at, all) => word !== '-c' && all[at - 1] !== '-c').join(' ');
    this.calls.push(call);
    this.onRun(call);
    if (limits.signal.aborted) throw new BangerError('cancelled', `${call} was cancelled`);
    return await runHere(program, limits);
  }
}

async function runHere(program: GuestProgram, limits: GuestProgramLimits): Promise<GuestProgramResult> {
  const [command, ...args] = program.argv;
  const child = spawn(command, args, {
    cwd: program.cwd,
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: '/nonexistent',
      GIT_CONFIG_NOSYSTEM: '1',
      // Else git looks above the test's own directory.
      GIT_CEILING_DIRECTORIES: '/tmp',
      ...program.env,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
    signal: limits.signal,
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(program.input ?? '');
  const stderr: Buffer[] = [];
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  const ended = new Promise<number>((resolve, reject) => {
    child.on('error', (cause) =>
      reject(
        new BangerError(limits.signal.aborted ? 'cancelled' : 'dependency_missing', `no ${command}`, {
          cause,
        }),
      ),
    );
    child.on('close', (status, signal) => resolve(status ?? (signal === null ? 255 : 137)));
  });
  ended.catch(() => undefined);
  const stdout: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > limits.maxOutputBytes) throw new BangerError('limit_exceeded', `${command}: too much`);
    if (limits.onStdout === undefined) stdout.push(chunk);
    else await limits.onStdout(chunk);
  }
  return { status: await ended, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) };
}

/** Everything of a repository that reading must not change: each file of `.git` but its objects, with its time. */
export function gitFingerprint(dir: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const walk = (path: string): void => {
    for (const name of readdirSync(join(dir, '.git', path))) {
      const child = join(path, name);
      if (child === 'objects') continue;
      const full = join(dir, '.git', child);
      const stat = lstatSync(full, { bigint: true });
      if (stat.isDirectory()) walk(child);
      else {
        const content = stat.isSymbolicLink() ? readlinkSync(full) : readFileSync(full, 'latin1');
        found.set(child, `${stat.mode} ${stat.mtimeNs} ${stat.ino} ${content}`);
      }
    }
  };
  walk('');
  return found;
}
