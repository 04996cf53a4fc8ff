/** `[[file_sync]]` of config.toml: files of the user's home that each start writes into the VM. */

import { z } from 'zod';

export interface FileSyncEntry {
  /** Below the user's home, and below root's: without `~/`, no component `.` or `..`. */
  readonly host: string;
  readonly guest: string;
  /** Of a file; what is in a directory has the modes it has here. */
  readonly mode: number;
}

const DEFAULT_MODE = '0600';
const MAX_PERMISSIONS = 0o777;
const MAX_ENTRIES = 256;

/** What is behind the prefix, or undefined where that is no plain path. */
function below(path: string, prefixes: readonly string[]): string | undefined {
  const prefix = prefixes.find((one) => path.startsWith(one));
  if (prefix === undefined) return undefined;
  const parts = path.slice(prefix.length).replace(/\/+$/, '').split('/');
  const isPlain = parts.every((part) => !['', '.', '..'].includes(part) && !part.includes('\0'));
  return isPlain ? parts.join('/') : undefined;
}

function pathBelow(prefixes: readonly string[], pattern: string, error: string) {
  const missing = {
    error: ({ input }: { input?: unknown }) => (input === undefined ? `is missing; it ${error}` : error),
  };
  return z
    .string(missing)
    .meta({ pattern })
    .transform((path) => below(path, prefixes))
    .refine((path) => path !== undefined, { error })
    .transform((path) => path ?? '');
}

const MODE_ERROR = 'must be three octal digits in quotes, with or without a 0 before them: "600", "0600"';
const mode = z
  .string({ error: MODE_ERROR })
  .regex(/^0?[0-7]{3}$/, { error: MODE_ERROR })
  .transform((text) => Number.parseInt(text, 8) & MAX_PERMISSIONS);

export const fileSyncSchema = z
  .array(
    z.strictObject(
      {
        host: pathBelow(['~/'], '^~/.', 'must be a path below "~/", without ".."'),
        guest: pathBelow(
          ['~/', '/root/'],
          '^(~|/root)/.',
          'must be a path below "~/" or "/root/", without ".."',
        ),
        mode: mode.prefault(DEFAULT_MODE),
      },
      { error: ({ code }) => (code === 'invalid_type' ? 'must be a table with host and guest' : undefined) },
    ),
    { error: 'must be tables: [[file_sync]]' },
  )
  .max(MAX_ENTRIES, { error: `has more than ${MAX_ENTRIES} entries` });
