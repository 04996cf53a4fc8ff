/** The product as a whole process, in a home of its own on images that were built before. */

import { type SpawnOptions, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { timed } from './stats.ts';

export const ROOT = join(import.meta.dirname, '..', '..');
export const NODE = join(ROOT, 'node_modules', '.bin', 'node');
export const BANGER = join(ROOT, 'banger');

/** Runs a program to its end with its output thrown away; throws when it fails. */
export async function runProcess(argv: readonly string[], options: SpawnOptions = {}): Promise<void> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'], ...options });
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (status, signal) => {
      if (status === 0) resolve();
      else reject(new Error(`${argv.join(' ')} ended with ${status ?? signal}`));
    });
  });
}

export class ProgramHome {
  readonly dir: string;
  readonly env: NodeJS.ProcessEnv;

  constructor(stateDir: string, settings = '') {
    this.dir = mkdtempSync(join(tmpdir(), 'bp-'));
    mkdirSync(join(this.dir, 'config'), { mode: 0o700 });
    writeFileSync(join(this.dir, 'config', 'config.toml'), settings, { mode: 0o600 });
    mkdirSync(join(this.dir, 'state'), { mode: 0o700 });
    for (const kind of ['images', 'kernels'])
      symlinkSync(join(stateDir, kind), join(this.dir, 'state', kind));
    const probe = join(stateDir, '..', 'cache', 'probe.json');
    mkdirSync(join(this.dir, 'cache'), { mode: 0o700 });
    if (existsSync(probe)) symlinkSync(probe, join(this.dir, 'cache', 'probe.json'));
    this.env = { ...process.env, BANGER_HOME: this.dir };
  }

  async banger(args: readonly string[], options: SpawnOptions = {}): Promise<void> {
    await runProcess([BANGER, ...args], { env: this.env, cwd: this.dir, ...options });
  }

  /** Wall-clock milliseconds of the whole process. */
  async time(args: readonly string[]): Promise<number> {
    return await timed(() => this.banger(args));
  }

  async json<T>(args: readonly string[]): Promise<T> {
    const child = spawn(BANGER, [...args, '--json'], { env: this.env, stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    for await (const chunk of child.stdout) text += String(chunk);
    return JSON.parse(text) as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const vms = await this.json<readonly { name: string }[]>(['vm', 'list']);
    if (vms.length > 0) await this.banger(['vm', 'delete', ...vms.map(({ name }) => name)]);
    await this.banger(['daemon', 'stop']);
    rmSync(this.dir, { recursive: true, force: true });
  }
}
