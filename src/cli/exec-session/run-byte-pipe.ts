/**
 * stdin and stdout of this process as the two directions of a stream: what `ssh` gets for a network connection. Nothing else is
 * written; the two are pipes, and a program of the host at their other end decides how long this lasts.
 */

import type { StreamTicket } from '../../api/results/stream.ts';
import { type CloseResult, printable } from '../../core/channel/close.ts';
import { openStream } from '../../rpc/stream-client.ts';
import { pumpInput } from './input-pump.ts';
import { OutputWriter } from './output-writer.ts';
import type { SessionInput, SessionOutput, SignalSource } from './types.ts';

export interface BytePipeOptions {
  readonly ticket: StreamTicket;
  readonly stdin: SessionInput;
  readonly stdout: SessionOutput;
  /** Default: this process. */
  readonly signals?: SignalSource;
}

export interface BytePipeEnd {
  /** Null: this end was left before the other was done. */
  readonly result: CloseResult | null;
  /** Anything at all came from the other end. */
  readonly hasSpoken: boolean;
  /** What the program in the guest had to complain about: its last line, safe to print. */
  readonly complaint: string;
}

/** What a program that has lost its client gets to end by itself; then it is ended (SIGHUP, 2 s later SIGKILL). */
const WIND_UP_MS = 2000;
const GIVE_UP_MS = 5000;
const MAX_COMPLAINT_BYTES = 4096;
const MAX_COMPLAINT_CHARACTERS = 300;
/** ssh sends the first of them to its proxy when it ends. */
const ENDING = ['SIGHUP', 'SIGTERM'] as const;
/** Of the terminal that ssh runs in: what they mean is for ssh to say. */
const OF_THE_TERMINAL = ['SIGINT', 'SIGQUIT'] as const;

/** Until the stream ends, or soon after this side has. @throws {BangerError} `channel_broken`, `unavailable` */
export async function runBytePipe(options: BytePipeOptions): Promise<BytePipeEnd> {
  using cleanup = new DisposableStack();
  const { promise: left, resolve: leave } = Promise.withResolvers<null>();
  const complaint: Uint8Array[] = [];
  let complaintBytes = 0;
  let hasSpoken = false;
  const giveUp = (): void => {
    stream.reset();
    cleanup.adopt(
      setTimeout(() => leave(null), GIVE_UP_MS),
      clearTimeout,
    );
  };
  const stdout = cleanup.adopt(new OutputWriter(options.stdout, giveUp), (writer) => writer.dispose());
  const stream = openStream({
    ...options.ticket,
    onStdout: (chunk, taken) => {
      hasSpoken = true;
      stdout.write(chunk, taken);
    },
    onStderr: (chunk, taken) => {
      if (complaintBytes < MAX_COMPLAINT_BYTES) complaint.push(chunk);
      complaintBytes += chunk.length;
      taken();
    },
    onWritable: () => input.resume(),
  });
  cleanup.defer(() => stream.destroy());
  const input = pumpInput(options.stdin, stream);
  cleanup.defer(() => input.stop());
  let isWindingUp = false;
  const windUp = (): void => {
    if (isWindingUp) return;
    isWindingUp = true;
    input.stop();
    stream.endInput();
    cleanup.adopt(setTimeout(giveUp, WIND_UP_MS), clearTimeout);
  };
  for (const event of ['end', 'close', 'error']) {
    options.stdin.on(event, windUp);
    cleanup.defer(() => options.stdin.off(event, windUp));
  }
  const signals = options.signals ?? process;
  const ignore = (): void => undefined;
  for (const [names, listener] of [[ENDING, windUp] as const, [OF_THE_TERMINAL, ignore] as const]) {
    for (const name of names) {
      signals.on(name, listener);
      cleanup.defer(() => signals.off(name, listener));
    }
  }
  const result = await Promise.race([stream.result, left]);
  await Promise.race([stdout.drained(), left]);
  return { result, hasSpoken, complaint: lastLine(complaint) };
}

function lastLine(chunks: readonly Uint8Array[]): string {
  const lines = Buffer.concat(chunks)
    .subarray(0, MAX_COMPLAINT_BYTES)
    .toString('utf8')
    .trim()
    .split(/[\r\n]+/);
  return printable(lines.at(-1) ?? '').slice(0, MAX_COMPLAINT_CHARACTERS);
}
