/** Where a program lies, without starting it. */

import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import { BangerError } from '../core/errors.ts';

/**
 * The absolute path that running `name` would execute.
 * @throws {BangerError} `dependency_missing`
 */
export async function findProgram(name: string, path: string = process.env['PATH'] ?? ''): Promise<string> {
  const candidates = isAbsolute(name) ? [name] : path.split(delimiter).map((dir) => join(dir, name));
  for (const candidate of candidates) {
    try {
      await access(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not here, or not executable: the next directory may have it, as execvp(3) looks on.
    }
  }
  throw new BangerError('dependency_missing', `the program "${name}" is not installed`);
}
