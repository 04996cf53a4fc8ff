/** Sockets that somebody left: told apart from those that somebody serves by connecting to them. */

import { unlink } from 'node:fs/promises';
import { BangerError } from '../../core/errors.ts';
import { openSocket } from '../../rpc/client.ts';
import type { Repair } from './check.ts';
import { factsOf } from './host-facts.ts';

const CONNECT_TIMEOUT_MS = 1000;

/** Whether a process serves the socket, or may do: only a refusal proves that none does (unix(7), ECONNREFUSED). */
export async function isServed(path: string): Promise<boolean> {
  try {
    (await openSocket(path, AbortSignal.timeout(CONNECT_TIMEOUT_MS))).destroy();
    return true;
  } catch (error) {
    const { code } = ((error as BangerError).cause ?? {}) as NodeJS.ErrnoException;
    return code !== 'ECONNREFUSED' && code !== 'ENOENT';
  }
}

export function removeSocket(path: string, uid: number): Repair {
  return {
    what: `rm ${path}`,
    needsLock: true,
    apply: async () => {
      const facts = factsOf(path);
      if (facts === undefined) return;
      if (facts.kind !== 'socket' || facts.uid !== uid || (await isServed(path))) {
        throw new BangerError('in_use', `${path} is not a socket that was left`);
      }
      await unlink(path);
    },
  };
}
