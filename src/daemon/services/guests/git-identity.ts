/** The name and address that git would commit with here, read again when its configuration has changed. */

import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { GitIdentity } from '../../../core/guestconfig/git-identity.ts';
import { errorText } from '../../../core/errors.ts';
import type { Log } from '../../../host/log.ts';
import type { CommandRunner } from '../../../host/runner.ts';

const TIMEOUT_MS = 5000;
const MAX_OUTPUT_BYTES = 1024 * 1024;
const MAX_VALUE_CHARACTERS = 1000;
const MAX_ORIGINS = 64;

type Environment = Readonly<Record<string, string | undefined>>;

interface Known {
  readonly identity: GitIdentity | undefined;
  /** The files it was read from, and what they were. */
  readonly files: readonly string[];
  readonly stamp: string;
}

export class HostGitIdentity {
  readonly #runner: CommandRunner;
  readonly #log: Log;
  readonly #env: Environment;
  readonly #standardFiles: readonly string[];
  #known: Known | undefined;
  #reading: Promise<Known> | undefined;

  constructor(deps: { readonly runner: CommandRunner; readonly log: Log; readonly env: Environment }) {
    this.#runner = deps.runner;
    this.#log = deps.log;
    const { HOME, XDG_CONFIG_HOME } = deps.env;
    this.#env = { HOME, XDG_CONFIG_HOME, GIT_DIR: undefined };
    const home = HOME ?? '';
    const config = XDG_CONFIG_HOME ?? join(home, '.config');
    // git-config(1), FILES.
    this.#standardFiles = ['/etc/gitconfig', join(config, 'git/config'), join(home, '.gitconfig')];
  }

  /** Undefined: there is no git, or it knows of none. Looks at some files; runs git only after a change. Never rejects. */
  async get(): Promise<GitIdentity | undefined> {
    const known = this.#known;
    if (known !== undefined && stampOf(known.files) === known.stamp) return known.identity;
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    this.#known = await this.#reading;
    return this.#known.identity;
  }

  async #read(): Promise<Known> {
    let entries: readonly Entry[] = [];
    try {
      // In no repository: only what holds for the user everywhere.
      const argv = ['git', 'config', '--list', '--null', '--show-origin'] as const;
      const options = { cwd: '/', env: this.#env, timeoutMs: TIMEOUT_MS, maxOutputBytes: MAX_OUTPUT_BYTES };
      const { stdout } = await this.#runner.run(argv, options);
      entries = parseEntries(stdout.toString('utf8'));
    } catch (error) {
      this.#log.debug({ reason: errorText(error) }, 'the git identity of this host is not known');
    }
    const origins = new Set([...this.#standardFiles, ...entries.map(({ file }) => file)]);
    const files = [...origins].slice(0, MAX_ORIGINS);
    return { identity: identityOf(entries), files, stamp: stampOf(files) };
  }
}

interface Entry {
  readonly file: string;
  readonly key: string;
  readonly value: string;
}

/** `file:PATH NUL key LF value NUL`, one after another; other origins have no file. */
function parseEntries(text: string): readonly Entry[] {
  const fields = text.split('\0');
  const entries: Entry[] = [];
  for (let index = 0; index + 1 < fields.length; index += 2) {
    const [key = '', ...value] = (fields[index + 1] ?? '').split('\n');
    entries.push({ file: (fields[index] ?? '').replace(/^file:/, ''), key, value: value.join('\n') });
  }
  return entries;
}

function identityOf(entries: readonly Entry[]): GitIdentity | undefined {
  const last = (key: string): string | undefined => entries.findLast((entry) => entry.key === key)?.value;
  const [name, email] = ['user.name', 'user.email'].map((key) => last(key)?.slice(0, MAX_VALUE_CHARACTERS));
  if (name === undefined && email === undefined) return undefined;
  return { ...(name !== undefined && { name }), ...(email !== undefined && { email }) };
}

function stampOf(files: readonly string[]): string {
  return files.map(stampOfFile).join();
}

function stampOfFile(file: string): string {
  try {
    const status = statSync(file, { bigint: true, throwIfNoEntry: false });
    return status === undefined ? '-' : `${status.ino}:${status.size}:${status.mtimeNs}`;
  } catch {
    return '?';
  }
}
