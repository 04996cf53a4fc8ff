/** A stream that is only read: `vm logs`. */

import { BangerError, errorText } from '../../core/errors.ts';
import { openStream } from '../../rpc/stream-client.ts';
import { failureOf } from './failure.ts';
import { OutputWriter } from './output-writer.ts';
import type { OutputStreamOptions } from './types.ts';

/**
 * Copies the stream until it ends. A reader of stdout that went away (`| head`) ends it quietly.
 * @throws {BangerError} what failed; `cancelled`, when `options.signal` is aborted
 */
export async function runOutputStream(options: OutputStreamOptions): Promise<void> {
  let failure: NodeJS.ErrnoException | undefined;
  const onFailure = (error: NodeJS.ErrnoException) => {
    failure ??= error;
    stream.destroy();
  };
  const stdout = new OutputWriter(options.stdout, onFailure);
  const stderr = new OutputWriter(options.stderr, () => undefined);
  const stream = openStream({
    streamSocketPath: options.ticket.streamSocketPath,
    ticket: options.ticket.ticket,
    onStdout: (chunk, taken) => stdout.write(chunk, taken),
    onStderr: (chunk, taken) => stderr.write(chunk, taken),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  stream.endInput();
  try {
    const result = await stream.result;
    await Promise.all([stdout.drained(), stderr.drained()]);
    if (failure === undefined && result.kind === 'failed') throw failureOf(result);
  } catch (error) {
    if (failure === undefined) throw error;
  } finally {
    stdout.dispose();
    stderr.dispose();
  }
  if (failure !== undefined && failure.code !== 'EPIPE') {
    throw new BangerError('io_error', `cannot write to stdout: ${errorText(failure)}`, { cause: failure });
  }
}
