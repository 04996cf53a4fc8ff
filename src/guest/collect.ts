/** Reads a stream to its end into memory, within bounds: for operations whose answer the daemon itself wants. */

import { type CloseFailure, closeWord, describeFailure, failureDetail } from '../core/channel/close.ts';
import { type Frame, STDOUT } from '../core/channel/frame.ts';
import { BangerError, errorText } from '../core/errors.ts';
import { ByteQueue } from './byte-queue.ts';
import { type Input, InputPump } from './input-pump.ts';
import type { GuestStream, StreamResult } from './stream.ts';

export interface CollectOptions {
  /** What is being done, for messages: `read the guest's ports`. */
  readonly what: string;
  readonly timeoutMs: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Cap on stdout and on stderr each. */
  readonly maxOutputBytes: number;
  /** Another cap on stderr. */
  readonly maxStderrBytes?: number | undefined;
  /** Takes stdout as it comes, at its own pace, instead of its being collected. The first failure ends the stream. */
  readonly onStdout?: ((bytes: Uint8Array) => Promise<void>) | undefined;
  /** Sent on channel 0, then its end. */
  readonly input?: Input | undefined;
}

export interface Collected {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly result: Exclude<StreamResult, CloseFailure>;
}

/**
 * Opens a stream and collects its output until it is closed. The stream is reset when that does not end well.
 * @throws {BangerError} `timeout`, `cancelled`, `limit_exceeded` (too much output), `channel_broken`, `guest_failed`
 *   (with what the agent says), and whatever `open` throws
 */
export async function collect(open: () => GuestStream, options: CollectOptions): Promise<Collected> {
  if (options.signal?.aborted) throw cancelled();
  const { promise, resolve, reject } = Promise.withResolvers<Collected>();
  const stream = open();
  const fail = (error: BangerError): void => {
    reject(error);
    stream.reset();
  };
  const onAbort = (): void => fail(cancelled());
  const timer = startTimer(options, fail);
  options.signal?.addEventListener('abort', onAbort);
  const pump = new InputPump(stream);
  const taken = new Taken(options, fail);
  stream.attach({
    data(frame: Frame): void {
      taken.take(frame, () => stream.consumed(frame.channel === STDOUT ? 1 : 2, frame.payload.length));
    },
    eof(): void {},
    credit: () => pump.credit(),
    closed(result): void {
      if (result.kind === 'failed') reject(failureOf(result, options.what));
      else void taken.passedOn.then(() => resolve({ ...taken.output(), result }));
    },
  });
  if (options.input !== undefined) {
    pump.send(options.input).catch((cause: unknown) => {
      fail(new BangerError('guest_failed', `cannot ${options.what}: ${errorText(cause)}`, { cause }));
    });
  }
  try {
    return await promise;
  } finally {
    pump.stop();
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', onAbort);
  }
}

/** What has come, and where it goes. */
class Taken {
  readonly #options: CollectOptions;
  readonly #fail: (error: BangerError) => void;
  readonly #outputs = [new ByteQueue(), new ByteQueue()] as const;
  readonly #bytes = [0, 0];
  /** Settles when all of stdout that has come so far was taken. Never rejects. */
  passedOn = Promise.resolve();
  #failed = false;

  constructor(options: CollectOptions, fail: (error: BangerError) => void) {
    this.#options = options;
    this.#fail = fail;
  }

  take({ channel, payload }: Frame, consumed: () => void): void {
    const { what, maxOutputBytes, maxStderrBytes = maxOutputBytes, onStdout } = this.#options;
    const index = channel === STDOUT ? 0 : 1;
    const bytes = (this.#bytes[index] ?? 0) + payload.length;
    this.#bytes[index] = bytes;
    if (bytes > (index === 0 ? maxOutputBytes : maxStderrBytes)) {
      this.#fail(new BangerError('limit_exceeded', `cannot ${what}: the output is longer than allowed`));
    } else if (index === 0 && onStdout !== undefined) {
      this.passedOn = this.passedOn.then(() => this.#passOn(onStdout, payload, consumed));
    } else {
      this.#outputs[index].push(payload);
      consumed();
    }
  }

  output(): { stdout: Buffer; stderr: Buffer } {
    return { stdout: this.#outputs[0].concat(), stderr: this.#outputs[1].concat() };
  }

  async #passOn(
    onStdout: (bytes: Uint8Array) => Promise<void>,
    payload: Uint8Array,
    consumed: () => void,
  ): Promise<void> {
    if (this.#failed) return;
    try {
      await onStdout(payload);
      consumed();
    } catch (cause) {
      this.#failed = true;
      const text = `cannot ${this.#options.what}: ${errorText(cause)}`;
      this.#fail(cause instanceof BangerError ? cause : new BangerError('io_error', text, { cause }));
    }
  }
}

function startTimer(options: CollectOptions, fail: (error: BangerError) => void): NodeJS.Timeout | undefined {
  const { timeoutMs, what } = options;
  if (timeoutMs === undefined) return undefined;
  return setTimeout(() => {
    fail(
      new BangerError('timeout', `cannot ${what}: the guest did not answer within ${timeoutMs / 1000} s`, {
        hint: 'the VM’s console log may say why: banger vm logs shows it',
      }),
    );
  }, timeoutMs);
}

function cancelled(): BangerError {
  return new BangerError('cancelled', 'cancelled');
}

/** The error a failed CLOSE stands for. */
export function failureOf(failure: CloseFailure, what: string): BangerError {
  const word = closeWord(failure);
  const code = word === 'channel' ? 'channel_broken' : 'guest_failed';
  const why = word === 'spawn' ? failureDetail(failure) : describeFailure(failure);
  return new BangerError(code, `cannot ${what}: ${why}`, { cause: failure });
}
