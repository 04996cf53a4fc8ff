/**
 * Waits for the first sign of life from a guest's agent, and nothing more: what a probe needs of docs/agent-protocol.md.
 */

import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { FRAME_TYPES, FrameParser, PROTOCOL_VERSION } from '../core/channel/frame.ts';
import { encodePreamble, NONCE_BYTES, PreambleScanner } from '../core/channel/preamble.ts';
import { BangerError, errorText } from '../core/errors.ts';

/**
 * Sends the preamble and settles at the agent's HELLO, then hangs up.
 * @throws {BangerError} `cancelled` (the signal), `channel_broken` (hang-up, or not our agent), `version_mismatch`
 */
export async function awaitHello(channel: Duplex, signal: AbortSignal): Promise<void> {
  const hello = Promise.withResolvers<void>();
  const nonce = randomBytes(NONCE_BYTES);
  const greeting = new GreetingReader(nonce);
  const onAbort = (): void =>
    hello.reject(new BangerError('cancelled', 'waiting for the guest was cancelled'));
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort);
  channel.on('error', (cause) => hello.reject(broken(cause.message, cause)));
  const onHangup = (): void => hello.reject(broken('the guest hung up'));
  channel.on('end', onHangup);
  channel.on('close', onHangup);
  channel.on('data', (chunk: Buffer) => {
    try {
      if (greeting.push(chunk)) hello.resolve();
    } catch (cause) {
      hello.reject(cause instanceof BangerError ? cause : broken(errorText(cause), cause));
    }
  });
  channel.write(encodePreamble(nonce));
  try {
    await hello.promise;
  } finally {
    signal.removeEventListener('abort', onAbort);
    channel.destroy();
  }
}

/** Takes bytes up to the first frame. */
class GreetingReader {
  readonly #scanner: PreambleScanner;
  readonly #parser = new FrameParser();
  #preambleSeen = false;

  constructor(nonce: Uint8Array) {
    this.#scanner = new PreambleScanner(nonce);
  }

  /** True once HELLO has come. @throws {FrameError | BangerError} something else came */
  push(chunk: Uint8Array): boolean {
    let bytes = chunk;
    if (!this.#preambleSeen) {
      const found = this.#scanner.push(chunk);
      if (found === undefined) return false;
      if (found.version !== PROTOCOL_VERSION) {
        const text = `the agent speaks protocol version ${found.version}, not ${PROTOCOL_VERSION}`;
        throw new BangerError('version_mismatch', text);
      }
      this.#preambleSeen = true;
      bytes = found.rest;
    }
    for (const frame of this.#parser.push(bytes)) {
      if (frame.type !== FRAME_TYPES.hello) throw broken(`the first frame has type ${frame.type}, not HELLO`);
      return true;
    }
    return false;
  }
}

function broken(why: string, cause?: unknown): BangerError {
  return new BangerError('channel_broken', `no hello from the guest: ${why}`, { cause });
}
