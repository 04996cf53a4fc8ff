/** Where in a guest a workspace may be put. */

import { BangerError } from './errors.ts';

export const DEFAULT_GUEST_PATH = '/root/repo';
const MAX_LENGTH = 1024;
/** A copy there would hide what the guest needs to run. */
const SYSTEM = new Set([
  'bin',
  'boot',
  'dev',
  'etc',
  'lib',
  'lib32',
  'lib64',
  'proc',
  'run',
  'sbin',
  'sys',
  'usr',
  'var',
]);
/** Hidden by a copy as a whole, but fine to have one inside. */
const HOMES = new Set(['/', '/root', '/home', '/tmp', '/opt', '/srv', '/mnt', '/media']);

/** @throws {BangerError} `bad_request` */
export function assertGuestPath(path: string): void {
  const problem = problemOf(path);
  if (problem === undefined) return;
  throw new BangerError('bad_request', `the copy cannot be at ${JSON.stringify(path)}: ${problem}`, {
    hint: `${DEFAULT_GUEST_PATH} is the default; /work or /home/me/project would do`,
  });
}

function problemOf(path: string): string | undefined {
  if (!path.startsWith('/')) return 'it must be an absolute path';
  if (path.length > MAX_LENGTH) return `it has more than ${MAX_LENGTH} characters`;
  if ([...path].some((character) => character < ' ' || character === '\x7f'))
    return 'it has control characters';
  if (HOMES.has(path)) return 'it would hide what is there';
  const names = path.slice(1).split('/');
  if (names.some((name) => name === '' || name === '.' || name === '..')) {
    return 'it must be written without empty names, "." and ".."';
  }
  if (names.includes('.git')) return 'it must not lie in a .git directory';
  if (SYSTEM.has(names[0] ?? '')) return `/${names[0]} belongs to the system`;
  return undefined;
}
