/** Archives over a stream of the agent: UNPACK and PACK. */

import { type CloseFailure, closeWord, ERRNO, failureDetail, printable } from '../../core/channel/close.ts';
import { type Frame, STDOUT } from '../../core/channel/frame.ts';
import { BangerError, errorText } from '../../core/errors.ts';
import { counted } from '../../core/units.ts';
import { ByteQueue } from '../byte-queue.ts';
import { failureOf } from '../collect.ts';
import { InputPump } from '../input-pump.ts';
import type { GuestStream, StreamResult } from '../stream.ts';
import { ArchiveDecoder, ArchiveError, type ArchiveLimits } from './decode.ts';
import { encodeArchive } from './encode.ts';
import type { ArchiveRecord, ConflictRecord } from './records.ts';

/** Nothing was written: what is in the guest is not what the host thinks it is. */
export class ArchiveConflicts extends BangerError {
  /** At most the first 1000. From the guest: `printable` before a terminal sees a path. */
  readonly conflicts: readonly ConflictRecord[];

  constructor(conflicts: readonly ConflictRecord[]) {
    const first = printable(conflicts[0]?.path.toString() ?? '');
    const files = counted(conflicts.length, 'file in the guest is', 'files in the guest are');
    super('invalid_state', `${files} not as shipped: ${first}${conflicts.length > 1 ? ' …' : ''}`);
    this.conflicts = conflicts;
  }
}

/** A directory in the place of a file, or something else in that of a directory. What came before it in the archive is written. */
export class ArchiveBlocked extends BangerError {}

export interface TransferOptions {
  /** For messages: `copy into the guest`. */
  readonly what: string;
  readonly signal: AbortSignal | undefined;
}

/** What an answer to checks may have at most: the agent names no more. */
const CONFLICT_LIMITS: ArchiveLimits = { maxRecords: 1000, maxDataBytes: 0 };

/**
 * Sends an archive to an UNPACK. Nothing limits its time but the signal.
 * @throws {ArchiveConflicts}, {ArchiveBlocked}
 * @throws {BangerError} `no_space`, `not_found`, `guest_failed` (with the path), `cancelled`, `channel_broken`; and whatever the
 *   source of the records throws: the file it was at has not appeared then
 */
export async function sendArchive(
  open: () => GuestStream,
  records: AsyncIterable<ArchiveRecord> | Iterable<ArchiveRecord>,
  options: TransferOptions,
): Promise<void> {
  throwIfAborted(options);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const stream = open();
  const pump = new InputPump(stream);
  const answer = new ConflictReader();
  const fail = (error: unknown): void => {
    reject(error);
    stream.reset();
  };
  const onAbort = (): void => fail(cancelled());
  options.signal?.addEventListener('abort', onAbort);
  stream.attach({
    data(frame) {
      stream.consumed(frame.channel === STDOUT ? 1 : 2, frame.payload.length);
      const error = answer.push(frame);
      if (error !== undefined) fail(nonsense(options, error));
    },
    eof() {},
    credit: () => pump.credit(),
    closed(result) {
      const error = sendingErrorOf(result, answer, options);
      if (error === undefined) resolve();
      else reject(error);
    },
  });
  pump.send(encodeArchive(records)).catch(fail);
  try {
    await promise;
  } finally {
    pump.stop();
    options.signal?.removeEventListener('abort', onAbort);
  }
}

class ConflictReader {
  readonly conflicts: ConflictRecord[] = [];
  readonly #decoder = new ArchiveDecoder(CONFLICT_LIMITS);

  /** @returns what is wrong with it */
  push(frame: Frame): ArchiveError | undefined {
    if (frame.channel !== STDOUT) return new ArchiveError('it writes to the wrong channel');
    try {
      for (const record of this.#decoder.push(frame.payload)) {
        if (record.kind !== 'conflict')
          throw new ArchiveError(`it answers with a record of kind ${record.kind}`);
        this.conflicts.push(record);
      }
      return undefined;
    } catch (error) {
      if (error instanceof ArchiveError) return error;
      throw error;
    }
  }
}

function sendingErrorOf(
  result: StreamResult,
  answer: ConflictReader,
  options: TransferOptions,
): BangerError | undefined {
  if (result.kind === 'done' && result.status === 0) return undefined;
  if (result.kind !== 'failed') return nonsense(options, new ArchiveError('a program seems to have run'));
  if (closeWord(result) === 'conflict' && answer.conflicts.length > 0) {
    return new ArchiveConflicts(answer.conflicts);
  }
  return transferFailureOf(result, options.what);
}

/**
 * The records of a PACK as they come. The guest sends no faster than they are taken; leaving the loop ends it.
 * @throws {BangerError} `not_found`, `guest_failed` (also for what is no archive, or over the limits), `cancelled`, `channel_broken`
 */
export async function* receiveArchive(
  open: () => GuestStream,
  limits: ArchiveLimits,
  options: TransferOptions,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  throwIfAborted(options);
  const stream = open();
  const inbox = new Inbox(stream);
  const onAbort = (): void => inbox.wake();
  options.signal?.addEventListener('abort', onAbort);
  const decoder = new ArchiveDecoder(limits);
  try {
    for (;;) {
      throwIfAborted(options);
      const bytes = inbox.shift();
      if (bytes !== undefined) {
        yield* decoder.push(bytes);
        stream.consumed(STDOUT, bytes.length);
      } else if (inbox.result !== undefined) break;
      else await inbox.changed();
    }
    const { result } = inbox;
    if (result?.kind === 'failed') throw transferFailureOf(result, options.what);
    decoder.finish();
  } catch (error) {
    throw error instanceof ArchiveError ? nonsense(options, error) : error;
  } finally {
    options.signal?.removeEventListener('abort', onAbort);
    stream.reset();
  }
}

/** What a stream has sent and nobody has taken yet: at most its window. */
class Inbox {
  result: StreamResult | undefined;
  readonly #bytes = new ByteQueue();
  #wake: () => void = () => {};

  constructor(stream: GuestStream) {
    stream.attach({
      data: (frame) => {
        if (frame.channel === STDOUT) this.#bytes.push(frame.payload);
        this.#wake();
      },
      eof() {},
      credit() {},
      closed: (result) => {
        this.result = result;
        this.#wake();
      },
    });
  }

  shift(): Uint8Array | undefined {
    return this.#bytes.shift();
  }

  /** The next thing that happens. */
  changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  wake(): void {
    this.#wake();
  }
}

function transferFailureOf(failure: CloseFailure, what: string): BangerError {
  const word = closeWord(failure);
  if (word !== 'unpack' && word !== 'pack') return failureOf(failure, what);
  const message = `cannot ${what}: ${failureDetail(failure)}`;
  if (failure.errno === ERRNO.ENOSPC) {
    return new BangerError('no_space', message, {
      hint: 'df -h in the VM shows what is full',
    });
  }
  if (word === 'unpack' && (failure.errno === ERRNO.EISDIR || failure.errno === ERRNO.ENOTDIR))
    return new ArchiveBlocked('guest_failed', message);
  return new BangerError(failure.errno === ERRNO.ENOENT ? 'not_found' : 'guest_failed', message);
}

function nonsense(options: TransferOptions, error: ArchiveError): BangerError {
  return new BangerError(
    'guest_failed',
    `cannot ${options.what}: what the guest sends makes no sense: ${errorText(error)}`,
    { cause: error },
  );
}

function throwIfAborted(options: TransferOptions): void {
  if (options.signal?.aborted) throw cancelled();
}

function cancelled(): BangerError {
  return new BangerError('cancelled', 'cancelled');
}
