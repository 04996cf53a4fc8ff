/** Ends this process in favour of another program of the host. */

import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { BangerError } from '../core/errors.ts';

/**
 * The program takes over process id, terminal and environment: signals, job control and exit status are its own. Open files of this
 * process are closed on the way, as Node opens all of them.
 * @throws {BangerError} `dependency_missing`: it is not in PATH
 */
export function become(name: string, args: readonly string[], debianPackage: string): never {
  const path = programPath(name);
  if (path === undefined || process.execve === undefined) {
    throw new BangerError('dependency_missing', `the program "${name}" is not installed on this host`, {
      hint: `sudo apt-get install ${debianPackage}`,
    });
  }
  return process.execve(path, [name, ...args], process.env);
}

/** Node ends with an abort where execve(2) fails, so what can be known is found out before. */
function programPath(name: string): string | undefined {
  return (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((dir) => join(dir, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return statSync(path).isFile();
      } catch {
        return false;
      }
    });
}
