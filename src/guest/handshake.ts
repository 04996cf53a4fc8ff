/** The opening of a session: preambles both ways, past whatever an earlier session left in the channel. */

import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { FrameError, PROTOCOL_VERSION } from '../core/channel/frame.ts';
import { encodePreamble, NONCE_BYTES, PreambleScanner } from '../core/channel/preamble.ts';
import { BangerError, errorText } from '../core/errors.ts';

/**
 * Sends the host's preamble and waits for the guest's answer to it. Leaves the connection paused.
 * @returns the bytes already read that follow the answer
 * @throws {BangerError} `channel_broken`, `version_mismatch`, or the signal's reason when it aborts
 */
export async function exchangePreambles(duplex: Duplex, signal: AbortSignal): Promise<Uint8Array> {
  signal.throwIfAborted();
  const nonce = randomBytes(NONCE_BYTES);
  const scanner = new PreambleScanner(nonce);
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  const onData = (chunk: Buffer): void => {
    try {
      const found = scanner.push(chunk);
      if (found === undefined) return;
      duplex.off('data', onData);
      duplex.pause();
      if (found.version === PROTOCOL_VERSION) resolve(found.rest);
      else reject(mismatch(found.version));
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      reject(broken(`the agent did not answer: ${error.message}`, error));
    }
  };
  const onEnd = (): void => reject(broken('it ended before the agent answered'));
  const onError = (error: Error): void => reject(broken(errorText(error), error));
  const onAbort = (): void => reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort);
  duplex.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onError);
  duplex.write(encodePreamble(nonce));
  if (duplex.destroyed) onEnd();
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', onAbort);
    duplex.off('data', onData).off('end', onEnd).off('close', onEnd).off('error', onError);
  }
}

function broken(why: string, cause?: Error): BangerError {
  return new BangerError('channel_broken', `cannot reach the guest's agent: ${why}`, { cause });
}

function mismatch(version: number): BangerError {
  return new BangerError(
    'version_mismatch',
    `the guest's agent speaks protocol version ${version}, banger speaks ${PROTOCOL_VERSION}`,
    { hint: 'banger vm restart gives the VM the current agent' },
  );
}
