/** One listening socket of the host for a published port. */

import { createServer, type Server, type Socket } from 'node:net';
import { BangerError, errorText } from '../../../core/errors.ts';
import { formatHostEnd } from '../../../core/published-port.ts';

/** A client that is gone without a word is noticed after this and some minutes: nothing else bounds a connection's life. */
const KEEP_ALIVE_AFTER_MS = 60_000;

export interface HostEnd {
  readonly hostAddress: string;
  /** 0: any free one. */
  readonly hostPort: number;
}

export interface PortListener {
  /** The one that was chosen, for a 0. */
  readonly hostPort: number;
  /** From now on nobody can connect, and the port is free. */
  close(): void;
}

/**
 * Connections come half-open and not read from. `takenBy` names who else has the port, as far as it is known.
 * @throws {BangerError} `in_use`, `permission`, `bad_request` (not an address of this host), `io_error`
 */
export async function listenOn(
  end: HostEnd,
  onConnection: (socket: Socket) => void,
  takenBy: () => string,
): Promise<PortListener> {
  const server = createServer(
    {
      allowHalfOpen: true,
      pauseOnConnect: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_AFTER_MS,
    },
    onConnection,
  );
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject).once('listening', resolve);
  // `::` alone: who wants both families publishes both.
  server.listen({ host: end.hostAddress, port: end.hostPort, ipv6Only: true });
  try {
    await promise;
  } catch (error) {
    throw bindFailure(end, error as NodeJS.ErrnoException, takenBy);
  }
  // A connection that could not be accepted (too many open files) is that client's loss.
  server.on('error', () => undefined);
  return { hostPort: portOf(server), close: () => void server.close() };
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has no port');
  return address.port;
}

function bindFailure(end: HostEnd, cause: NodeJS.ErrnoException, takenBy: () => string): BangerError {
  const where = formatHostEnd(end);
  switch (cause.code) {
    case 'EADDRINUSE':
      return new BangerError('in_use', `${where} cannot be published: ${takenBy()} has that port`, {
        hint: `publish another port of the host: --publish 0:GUESTPORT takes any that is free`,
        cause,
      });
    case 'EACCES':
      return new BangerError(
        'permission',
        `${where} cannot be published: ports this low are the administrator's`,
        {
          hint: 'publish a port from 1024 on',
          cause,
        },
      );
    case 'EADDRNOTAVAIL':
    case 'EAFNOSUPPORT':
    case 'EINVAL':
      return new BangerError('bad_request', `${where} cannot be published: this host has no such address`, {
        cause,
      });
    default:
      return new BangerError('io_error', `${where} cannot be published: ${errorText(cause)}`, { cause });
  }
}
