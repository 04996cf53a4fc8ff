/** A connection to the agent through Firecracker's vsock device (docs/vsock.md in its sources, host-initiated connections). */

import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../../core/errors.ts';
import { tryConnect } from '../waits.ts';

/** `OK 1073741824`: the number is of no use. */
const MAX_LINE_BYTES = 32;
const OK_LINE = /^OK \d{1,10}$/;
const NEWLINE = 0x0a;
/** The guest's kernel answers as soon as it has the device; what was asked before that may never be answered. */
const ANSWER_MS = 2000;

/**
 * One try. Undefined: nobody listens, on the host or in the guest; not yet, perhaps.
 * @throws {BangerError} `vmm_failed` (it answers what makes no sense); the signal's reason is not thrown: undefined
 */
export async function tryChannel(
  path: string,
  port: number,
  signal: AbortSignal,
): Promise<Socket | undefined> {
  const socket = await tryConnect(path);
  if (socket === undefined) return undefined;
  const over = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
  const onAbort = (): void => void socket.destroy();
  over.addEventListener('abort', onAbort);
  if (over.aborted) onAbort();
  // Whoever takes the connection listens for its own.
  const ignore = (): void => {};
  socket.on('error', ignore);
  try {
    socket.write(`CONNECT ${port}\n`);
    const line = await readLine(socket);
    if (line === undefined) return undefined;
    if (OK_LINE.test(line)) return socket;
    socket.destroy();
    throw new BangerError('vmm_failed', `Firecracker answered ${JSON.stringify(line)} to a connection`);
  } finally {
    over.removeEventListener('abort', onAbort);
    socket.off('error', ignore);
    // An error may still be on its way to one that was given up.
    if (socket.destroyed) socket.on('error', ignore);
  }
}

/** Reads no byte beyond the line's end. Undefined: the connection ended before. */
async function readLine(socket: Socket): Promise<string | undefined> {
  const bytes: number[] = [];
  while (bytes.length < MAX_LINE_BYTES) {
    const byte = socket.read(1) as Buffer | null;
    if (byte?.[0] === NEWLINE) break;
    if (byte !== null) bytes.push(byte[0] ?? 0);
    else if (socket.destroyed || socket.readableEnded) return undefined;
    else await readableOrOver(socket);
  }
  return Buffer.from(bytes).toString('latin1');
}

async function readableOrOver(socket: Socket): Promise<void> {
  const settled = new AbortController();
  const wait = async (event: string): Promise<void> => {
    await once(socket, event, { signal: settled.signal }).catch(() => {});
  };
  await Promise.race(['readable', 'end', 'close'].map(wait));
  settled.abort();
}

/** Tries until there is one, the signal comes or `check` throws. Undefined: the signal came. */
export async function connectWithin(
  path: string,
  port: number,
  retryMs: number,
  signal: AbortSignal,
  check: () => Promise<void>,
): Promise<Socket | undefined> {
  for (;;) {
    await check();
    if (signal.aborted) return undefined;
    const socket = await tryChannel(path, port, signal);
    if (socket !== undefined && !signal.aborted) return socket;
    socket?.destroy();
    await sleep(retryMs, undefined, { signal }).catch(() => {});
  }
}
