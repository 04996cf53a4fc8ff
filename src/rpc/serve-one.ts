/** The server side of the RPC for one client on a socket that is connected already: no socket file, no streams. */

import type { Socket } from 'node:net';
import { DEFAULT_LIMITS, newOperationId } from './server.ts';
import { ServerConnection } from './server-connection.ts';
import type { Handlers, RpcLog } from './server-types.ts';
import { validateParams } from './validate.ts';

export interface ServeOneOptions {
  readonly handlers: Handlers;
  readonly log: RpcLog;
  /** The client must be of exactly this version. */
  readonly version: string;
}

/** Serves until the client has hung up; what ran for it then is aborted, and has ended when this resolves. */
export async function serveOne(socket: Socket, options: ServeOneOptions): Promise<void> {
  const connection = new ServerConnection(socket, {
    ...options,
    id: 'c1',
    validate: validateParams,
    newOperationId,
    limits: DEFAULT_LIMITS,
    hasLog: false,
  });
  await connection.ended;
}
