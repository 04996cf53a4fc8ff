/** Debian's docker-registry (the distribution project's server) on loopback, as a child of the test. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Names and passwords it takes: `alice` with `wonderland: 7`. bcrypt, cost 5. */
export const HTPASSWD = 'alice:$2y$05$abcdefghijklmnopqrstuuUIYrNFLZ/oOvXLFkq5s211mt9a5psZ6\n';
export const PASSWORD = 'wonderland: 7';

export interface RegistrySettings {
  readonly htpasswd?: string;
  /** Section `auth.token` of its configuration. */
  readonly token?: Readonly<Record<string, string>>;
}

export class RegistryProcess implements AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly #child: ChildProcess;
  readonly #dir: string;

  private constructor(child: ChildProcess, dir: string, host: string) {
    this.#child = child;
    this.#dir = dir;
    this.host = host;
  }

  static async start(settings: RegistrySettings = {}): Promise<RegistryProcess> {
    const dir = mkdtempSync(join(tmpdir(), 'banger-registry-'));
    const passwords = join(dir, 'htpasswd');
    writeFileSync(passwords, settings.htpasswd ?? '');
    const auth = {
      ...(settings.htpasswd === undefined ? {} : { htpasswd: { realm: 'test', path: passwords } }),
      ...(settings.token === undefined ? {} : { token: settings.token }),
    };
    const config = {
      version: 0.1,
      log: { level: 'info', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(dir, 'data') } },
      http: { addr: '127.0.0.1:0' },
      ...(Object.keys(auth).length === 0 ? {} : { auth }),
    };
    // JSON is YAML.
    const configPath = join(dir, 'config.yml');
    writeFileSync(configPath, JSON.stringify(config));
    // Its environment would override the file.
    const child = spawn('docker-registry', ['serve', configPath], {
      env: { PATH: process.env['PATH'] },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const host = await listeningAddress(child);
    return new RegistryProcess(child, dir, host);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await ended;
    rmSync(this.#dir, { recursive: true });
  }
}

async function listeningAddress(child: ChildProcess): Promise<string> {
  let log = '';
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => reject(new Error(`docker-registry ended: ${log}`)));
    assert.ok(child.stderr);
    child.stderr.on('data', (chunk: Buffer) => {
      log += chunk.toString();
      const match = /listening on (127\.0\.0\.1:\d+)/.exec(log);
      if (match?.[1] !== undefined) resolve(match[1]);
    });
  });
}
