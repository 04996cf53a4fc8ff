/**
 * A network and a resolver of a test's own: the loopback interface and nothing else, with /etc/resolv.conf and
 * /etc/nsswitch.conf as the test wants them, in namespaces that end with it. Files and unix sockets are the host's.
 */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Why there can be none here; false: there can. */
export function whyNoNamespace(): string | false {
  if (process.geteuid?.() !== 0) return 'only root makes network namespaces';
  const { status, stderr } = spawnSync('unshare', ['--mount', '--net', 'true'], { encoding: 'utf8' });
  return status === 0 ? false : `no network namespaces here: ${stderr}`;
}

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const SET_UP = `
mount --make-rprivate / &&
ip link set lo up &&
mount --bind "$1/resolv.conf" /etc/resolv.conf &&
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf &&
echo ready && exec sleep infinity
`;
const RUN_TIMEOUT_MS = 60_000;

export class NetworkNamespace implements AsyncDisposable {
  readonly #pid: number;
  readonly #dir: string;

  private constructor(pid: number, dir: string) {
    this.#pid = pid;
    this.#dir = dir;
  }

  static async make(): Promise<NetworkNamespace> {
    const dir = mkdtempSync(join(tmpdir(), 'bn-'));
    writeFileSync(join(dir, 'resolv.conf'), '');
    // As Debian has it: no systemd-resolved, whatever the host has.
    writeFileSync(join(dir, 'nsswitch.conf'), 'hosts: files dns\n');
    const argv = ['--mount', '--net', 'sh', '-c', SET_UP, 'sh', dir];
    const holder = spawn('unshare', argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    const [said] = (await Promise.race([once(holder.stdout, 'data'), once(holder, 'exit')])) as [unknown];
    assert.equal(String(said), 'ready\n');
    return new NetworkNamespace(holder.pid ?? assert.fail('it has no pid'), dir);
  }

  /** The argument vector of a program that is to run in it. */
  inside(...argv: readonly string[]): readonly [string, ...string[]] {
    return ['nsenter', '--target', String(this.#pid), '--mount', '--net', '--', ...argv];
  }

  /** What programs in it that are started from now on ask for names. */
  setResolver(...lines: readonly string[]): void {
    writeFileSync(join(this.#dir, 'resolv.conf'), lines.map((line) => `${line}\n`).join(''));
  }

  /** What has been started in it is the caller's to end. */
  async [Symbol.asyncDispose](): Promise<void> {
    process.kill(this.#pid, 'SIGKILL');
    rmSync(this.#dir, { recursive: true });
  }
}

/** Runs a program to its end. */
export async function outcomeOf(
  [program, ...args]: readonly [string, ...string[]],
  env: NodeJS.ProcessEnv = process.env,
): Promise<Outcome> {
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: RUN_TIMEOUT_MS });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (output.stdout += String(chunk)));
  child.stderr.on('data', (chunk) => (output.stderr += String(chunk)));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, ...output };
}
