/** The programs building an image needs, and how to get them when they are missing. */

import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';

export interface Tool {
  readonly program: string;
  /** Debian package that has it. */
  readonly packageName: string;
}

/** mke2fs, debugfs and their like: not in an ordinary user's PATH on Debian. */
const SYSTEM_DIRS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** PATH with the system directories, and messages in English, which are parsed. */
export function toolEnv(): { readonly PATH: string; readonly LC_ALL: string } {
  return { PATH: [process.env['PATH'] ?? '/usr/bin:/bin', ...SYSTEM_DIRS].join(':'), LC_ALL: 'C' };
}

/** @throws {BangerError} `dependency_missing` naming every missing program and the command that installs them */
export async function requireTools(tools: readonly Tool[]): Promise<void> {
  const missing: Tool[] = [];
  for (const tool of tools) if (!(await isInstalled(tool.program))) missing.push(tool);
  if (missing.length === 0) return;
  const programs = missing.map(({ program }) => program).join(', ');
  const packages = [...new Set(missing.map(({ packageName }) => packageName))].join(' ');
  throw new BangerError('dependency_missing', `not installed: ${programs}`, {
    hint: `sudo apt-get install ${packages}`,
  });
}

async function isInstalled(program: string): Promise<boolean> {
  for (const dir of toolEnv().PATH.split(':')) {
    try {
      await access(join(dir, program), constants.X_OK);
      return true;
    } catch {
      // Not in this directory.
    }
  }
  return false;
}
