/** The stream socket's front door: reads a ticket, and gives the connection to whoever issued it. */

import type { Socket } from 'node:net';
import { encodeClose, ERRNO } from '../core/channel/close.ts';
import { encodeFrame, FRAME_TYPES } from '../core/channel/frame.ts';
import { errorText } from '../core/errors.ts';
import type { RpcLog } from './server-types.ts';
import { TICKET_HEX_DIGITS, type TicketBooth } from './tickets.ts';

/** Every client stream has this number on its connection: docs/agent-protocol.md, "Client streams". */
const CLIENT_STREAM = 1;
const TICKET_LINE_BYTES = TICKET_HEX_DIGITS + 1;
const LINE_FEED = 0x0a;
/** How long a refused client may take to read why. */
const LINGER_MS = 1000;

export interface StreamDoorOptions {
  readonly tickets: TicketBooth;
  readonly openingTimeoutMs: number;
  readonly log: RpcLog;
  /** The wait is over: handed over, refused, or gone. */
  readonly onSettled: () => void;
}

/** Waits for the ticket of a new connection. The socket is ours until it is handed over or refused. */
export function admitStream(socket: Socket, options: StreamDoorOptions): void {
  const timer = setTimeout(() => socket.destroy(), options.openingTimeoutMs);
  const ignoreError = () => undefined;
  const stopWaiting = () => {
    clearTimeout(timer);
    socket.off('readable', onReadable);
    socket.off('close', stopWaiting);
    options.onSettled();
  };
  const onReadable = () => {
    const line: Buffer | null = socket.read(TICKET_LINE_BYTES);
    if (line === null) return;
    stopWaiting();
    const handler = line.length === TICKET_LINE_BYTES ? redeem(line, options.tickets) : undefined;
    if (handler === undefined) {
      refuse(socket);
      return;
    }
    try {
      handler(socket);
      socket.off('error', ignoreError);
    } catch (error) {
      options.log.error({ err: error }, `a stream's handler failed: ${errorText(error)}`);
      socket.destroy();
    }
  };
  socket.on('error', ignoreError);
  socket.on('readable', onReadable);
  socket.on('close', stopWaiting);
}

function redeem(line: Buffer, tickets: TicketBooth): ((socket: Socket) => void) | undefined {
  if (line[TICKET_HEX_DIGITS] !== LINE_FEED) return undefined;
  return tickets.redeem(line.toString('latin1', 0, TICKET_HEX_DIGITS));
}

function refuse(socket: Socket): void {
  const reason = encodeClose({
    kind: 'failed',
    errno: ERRNO.EACCES,
    text: 'ticket: unknown, used or too old',
  });
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(timer));
  // Unread bytes at close would reset the connection, and the client would lose the reason.
  socket.resume();
  socket.end(encodeFrame(FRAME_TYPES.close, CLIENT_STREAM, 0, reason));
}
