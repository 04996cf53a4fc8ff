/** Sends a log file as a client stream (docs/agent-protocol.md): what is there, then what is added. */

import { watch } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { encodeClose } from '../core/channel/close.ts';
import { SendCredit } from '../core/channel/credit.ts';
import { encodeFrame, FRAME_TYPES, FrameError, FrameParser, STDOUT } from '../core/channel/frame.ts';

const STREAM = 1;
const CHUNK_BYTES = 64 * 1024;
/** File notification is a hint; this is the backstop. */
const POLL_MS = 500;
const TAIL_SCAN_BYTES = 4 * 1024 * 1024;

export interface LogStreamOptions {
  readonly path: string;
  readonly follow: boolean;
  readonly tailLines: number | undefined;
}

/** Ends when the file's end is reached, or with `follow` when the client resets the stream or hangs up. */
export async function streamLog(socket: Socket, options: LogStreamOptions): Promise<void> {
  const client = new LogClient(socket);
  const file = await openLog(options.path);
  try {
    if (file !== undefined) await copy(file, client, options);
    else if (options.follow) await client.gone;
  } finally {
    await file?.close();
    client.finish();
  }
}

async function openLog(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function copy(file: FileHandle, client: LogClient, options: LogStreamOptions): Promise<void> {
  let offset = options.tailLines === undefined ? 0 : await tailOffset(file, options.tailLines);
  const buffer = Buffer.alloc(CHUNK_BYTES);
  while (!client.isGone) {
    const room = Math.min(CHUNK_BYTES, client.credit.available);
    if (room === 0) {
      await client.changed();
      continue;
    }
    const { bytesRead } = await file.read(buffer, 0, room, offset);
    if (bytesRead > 0) {
      offset += bytesRead;
      client.send(buffer.subarray(0, bytesRead));
      continue;
    }
    if (!options.follow) return;
    // A log that was emptied because it grew too long goes on from its beginning.
    if ((await file.stat()).size < offset) offset = 0;
    else await fileOrClientChanged(options.path, client);
  }
}

async function fileOrClientChanged(path: string, client: LogClient): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const watcher = watch(path, () => resolve());
  watcher.on('error', () => resolve());
  const timer = setTimeout(resolve, POLL_MS);
  try {
    await Promise.race([promise, client.gone]);
  } finally {
    clearTimeout(timer);
    watcher.close();
  }
}

/** Where the last `lines` lines begin. Looks back a bounded way. */
async function tailOffset(file: FileHandle, lines: number): Promise<number> {
  const { size } = await file.stat();
  const start = Math.max(0, size - TAIL_SCAN_BYTES);
  const bytes = Buffer.alloc(size - start);
  await file.read(bytes, 0, bytes.length, start);
  const end = bytes.at(-1) === 0x0a ? bytes.length - 1 : bytes.length;
  if (lines === 0) return size;
  let at = end;
  for (let found = 0; found < lines; found++) {
    at = bytes.lastIndexOf(0x0a, at - 1);
    if (at <= 0) return at === 0 && found + 1 === lines ? start + 1 : start;
  }
  return start + at + 1;
}

/** The other end: its credit, and whether it is still there. */
class LogClient {
  readonly credit = new SendCredit();
  readonly gone: Promise<void>;
  isGone = false;
  readonly #socket: Socket;
  #wake: (() => void) | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    const parser = new FrameParser();
    this.gone = new Promise((resolve) => {
      const leave = (): void => {
        this.isGone = true;
        resolve();
        this.#wake?.();
      };
      socket.on('data', (chunk) => {
        try {
          for (const frame of parser.push(chunk)) {
            if (frame.type === FRAME_TYPES.reset) leave();
            else if (frame.type === FRAME_TYPES.window && frame.channel === STDOUT) {
              this.credit.add(Buffer.from(frame.payload).readUInt32LE(0));
            }
          }
          this.#wake?.();
        } catch (error) {
          if (!(error instanceof FrameError)) throw error;
          leave();
        }
      });
      socket.once('close', leave);
      socket.once('end', leave);
      socket.on('error', leave);
    });
    socket.resume();
  }

  send(bytes: Uint8Array): void {
    this.credit.use(bytes.length);
    this.#socket.write(encodeFrame(FRAME_TYPES.data, STREAM, STDOUT, bytes));
  }

  /** Settles when credit has come or the client has gone. */
  async changed(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    await promise;
  }

  finish(): void {
    this.#socket.end(encodeFrame(FRAME_TYPES.close, STREAM, 0, encodeClose({ kind: 'done', status: 0 })));
  }
}
