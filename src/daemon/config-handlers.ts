/** The requests about settings: what is in the file now, which needs no daemon, and what a daemon was started with. */

import { lstat } from 'node:fs/promises';
import type { Method } from '../api/contract.ts';
import { BangerError } from '../core/errors.ts';
import { MAX_CONFIG_BYTES } from '../host/config.ts';
import { configSchema, type ConfigText, problemsIn, showConfig } from '../host/config-show.ts';
import { readTextFile } from '../host/files.ts';
import type { BangerPaths } from '../host/paths.ts';
import { cpuCount, hostMemoryMib } from '../host/proc.ts';
import type { Handlers } from '../rpc/server-types.ts';
import { refusal } from './state-handlers.ts';

export type ConfigHandlers = Pick<Handlers, Extract<Method, `config.${string}`>>;
type Environment = Readonly<Record<string, string | undefined>>;

/** @throws {BangerError} `limit_exceeded`, `io_error` */
export async function readConfigText(file: string, env: Environment): Promise<ConfigText> {
  const text = await readTextFile(file, MAX_CONFIG_BYTES);
  return { file, text, env, host: { cpus: cpuCount(), memoryMib: hostMemoryMib() } };
}

export function offlineConfigHandlers(paths: () => BangerPaths, env: Environment): ConfigHandlers {
  return {
    'config.show': async () => showConfig(await readConfigText(paths().configFile, env)),
    'config.check': async ({ path }) => {
      const file = path ?? paths().configFile;
      // What the environment says is not about a file that is only looked at.
      const given = await readConfigText(file, path === undefined ? env : {});
      if (path !== undefined && given.text === undefined) {
        throw new BangerError('not_found', `there is no file ${path}`);
      }
      if (given.text === undefined && (await isLink(file))) {
        const message = `${file} is a symbolic link to what is not there: defaults`;
        const problem = { where: file, line: null, column: null, key: null, message, hint: null };
        return { file, exists: false, problems: [problem], unlisted: 0 };
      }
      return { file, exists: given.text !== undefined, ...problemsIn(given) };
    },
    'config.schema': async () => configSchema(),
  };
}

async function isLink(path: string): Promise<boolean> {
  const entry = await lstat(path).catch(() => undefined);
  return entry?.isSymbolicLink() === true;
}

/** A daemon tells what it was started with; the file it leaves to a process that reads it now. */
export function daemonConfigHandlers(startedWith: ConfigText): ConfigHandlers {
  const elsewhere = refusal(
    () =>
      new BangerError('unavailable', 'the daemon does not read the file again', {
        hint: 'banger config check',
      }),
  );
  return {
    'config.show': async () => showConfig(startedWith),
    'config.check': elsewhere,
    'config.schema': elsewhere,
  };
}
