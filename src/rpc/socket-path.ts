/** Unix socket paths are short: `sun_path` holds 108 bytes with the final NUL (unix(7)). */

import { BangerError } from '../core/errors.ts';

const MAX_SOCKET_PATH_BYTES = 107;

/** Longer ones would be cut off or refused by the system with a message that names nothing. */
export function assertSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_SOCKET_PATH_BYTES) return;
  throw new BangerError(
    'usage',
    `the socket path "${path}" has ${bytes} bytes, and the system's limit is ${MAX_SOCKET_PATH_BYTES}`,
    { hint: 'use a shorter XDG_RUNTIME_DIR or BANGER_HOME' },
  );
}
