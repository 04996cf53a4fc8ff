/** A unix socket only its owner can reach, from its first moment. */

import { lstatSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { systemReason } from '../core/system-error.ts';
import { assertSocketPath } from './socket-path.ts';

/**
 * Listens at a path in a directory that is made with mode 0700, and must be the caller's own. A socket file left at the path is
 * removed: the caller knows (by the instance lock) that nobody serves it.
 * @throws {BangerError} `usage` (path too long), `permission` (the directory is not private), `io_error`
 */
export function listenAt(path: string, onConnection: (socket: Socket) => void): Promise<Server> {
  assertSocketPath(path);
  makePrivateDirectory(dirname(path));
  removeStaleSocket(path);
  return new Promise((resolve, reject) => {
    const server = createServer(onConnection);
    server.once('error', (error) =>
      reject(
        new BangerError('io_error', `cannot listen at ${path}: ${systemReason(error) ?? error.message}`, {
          cause: error,
        }),
      ),
    );
    // bind(2) happens inside listen(), and takes the mode of the file from the umask.
    const umask = process.umask(0o077);
    try {
      server.listen({ path }, () => {
        server.removeAllListeners('error');
        resolve(server);
      });
    } finally {
      process.umask(umask);
    }
  });
}

function makePrivateDirectory(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const stats = lstatSync(dir);
  if (!stats.isDirectory() || stats.uid !== process.geteuid?.()) {
    throw new BangerError('permission', `${dir} is not a directory of this user`);
  }
  if ((stats.mode & 0o077) !== 0) {
    throw new BangerError('permission', `${dir} is open to other users`, { hint: `chmod 700 ${dir}` });
  }
}

function removeStaleSocket(path: string): void {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isSocket()) throw new BangerError('io_error', `${path} is in the way: it is not a socket`);
  rmSync(path, { force: true });
}
