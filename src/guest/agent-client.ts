/** The daemon's client of the agent in one guest: one connection, one session, every operation with a deadline. */

import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../core/errors.ts';
import type { GuestConfig } from '../core/guestconfig/guest-config.ts';
import {
  type GuestHealth,
  type GuestHello,
  type GuestPort,
  MAX_HEALTH_BYTES,
  MAX_HELLO_BYTES,
  MAX_PORTS_BYTES,
  parseHealth,
  parseHello,
  parsePorts,
} from './answers.ts';
import type { ArchiveLimits } from './archive/decode.ts';
import type { ArchiveRecord } from './archive/records.ts';
import { receiveArchive, sendArchive } from './archive/transfer.ts';
import { collect } from './collect.ts';
import { exchangePreambles } from './handshake.ts';
import {
  encodeClock,
  encodeConfigure,
  encodeConnect,
  encodeExec,
  encodeHealth,
  encodeMount,
  encodePack,
  encodePorts,
  encodePowerOff,
  encodePrepareCopies,
  encodeReseed,
  encodeSync,
  encodeUnpack,
  type ConnectRequest,
  type ExecRequest,
  type MountRequest,
  type PackRequest,
  type UnpackRequest,
} from './payloads.ts';
import { Session } from './session.ts';
import type { GuestStream } from './stream.ts';
import { wallClockNs } from './wall-clock.ts';

export interface ConnectOptions {
  readonly signal: AbortSignal;
  /** From now to the agent's HELLO. */
  readonly timeoutMs: number;
}

/** Generous under software emulation on a loaded host; a person's patience is the daemon's to judge. */
const DEFAULT_TIMEOUT_MS = 10_000;
const SYNC_TIMEOUT_MS = 60_000;
const MOUNT_TIMEOUT_MS = 30_000;
/** A guest is busy for up to 2 s after its boot, and longer while its disk is being grown. */
const SETTLE_TIMEOUT_MS = 30_000;
const SETTLE_POLL_MS = 100;
/** On top of the grace the guest's processes get. */
const POWER_OFF_MARGIN_MS = 10_000;

export class AgentClient {
  /** Settles when the session is over, whoever ended it. Never rejects; `closeReason` says why. */
  readonly closed: Promise<void>;
  readonly #session: Session;
  #hello: GuestHello;
  #openConnections = 0;
  #openLooks = 0;

  private constructor(session: Session, hello: GuestHello) {
    this.#session = session;
    this.#hello = hello;
    this.closed = session.ended.then(() => {});
  }

  /**
   * Opens a session with the agent at the other end of `duplex` and owns the connection from then on: it is destroyed
   * when this fails and when the session ends.
   * @throws {BangerError} `timeout`, `cancelled`, `channel_broken`, `version_mismatch`, `guest_failed` (a hello that
   *   makes no sense; a guest that says it could not boot is not an error here: see `hello.error`)
   */
  static async connect(duplex: Duplex, options: ConnectOptions): Promise<AgentClient> {
    const giveUp = new AbortController();
    const onAbort = (): void => giveUp.abort(cancelled());
    const timer = setTimeout(() => giveUp.abort(silent(options.timeoutMs)), options.timeoutMs);
    options.signal.addEventListener('abort', onAbort);
    if (options.signal.aborted) onAbort();
    // Between the handshake's listeners and the session's: an error event without a listener ends the process.
    duplex.on('error', () => {});
    try {
      const rest = await exchangePreambles(duplex, giveUp.signal);
      const session = new Session(duplex, rest);
      const hello = await Promise.race([session.hello, rejection(giveUp.signal)]);
      return new AgentClient(session, parseHello(hello));
    } catch (error) {
      duplex.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
      options.signal.removeEventListener('abort', onAbort);
    }
  }

  /** What the guest says about itself: when it was connected to, and again when it was configured. */
  get hello(): GuestHello {
    return this.#hello;
  }

  /** Why the session ended; undefined while it lasts. */
  get closeReason(): BangerError | undefined {
    return this.#session.reason;
  }

  /** Streams open now: commands that run, operations under way. */
  get openStreams(): number {
    return this.#session.openStreams;
  }

  /** How many of them are connections to ports: they may be open for days without being used. */
  get openConnections(): number {
    return this.#openConnections;
  }

  /** How many of them only look at the guest: they come unasked, and say nothing of whether somebody uses it. */
  get openLooks(): number {
    return this.#openLooks;
  }

  /** Bytes that wait for the guest to take them. */
  get bufferedBytes(): number {
    return this.#session.bufferedBytes;
  }

  /**
   * Tells the guest who it is. May come again, and must come to a clone before anything else does.
   * @returns the guest's hello as it is from now on: with its own boot id
   */
  async configure(
    config: GuestConfig,
    signal?: AbortSignal,
    timeoutMs = DEFAULT_TIMEOUT_MS,
  ): Promise<GuestHello> {
    const what = 'configure the guest';
    // The time is that of sending, however long ago the rest was put together.
    const clockNs = config.clockNs === 0n ? 0n : wallClockNs();
    const payload = encodeConfigure({ ...config, clockNs });
    const answer = await this.#request(what, payload, signal, timeoutMs, MAX_HELLO_BYTES);
    this.#hello = parseHello(answer);
    return this.#hello;
  }

  async health(signal?: AbortSignal, timeoutMs = DEFAULT_TIMEOUT_MS): Promise<GuestHealth> {
    const what = "read the guest's health";
    return parseHealth(await this.#request(what, encodeHealth(), signal, timeoutMs, MAX_HEALTH_BYTES));
  }

  async ports(signal?: AbortSignal, timeoutMs = DEFAULT_TIMEOUT_MS): Promise<readonly GuestPort[]> {
    const what = "read the guest's ports";
    this.#openLooks++;
    try {
      return parsePorts(await this.#request(what, encodePorts(), signal, timeoutMs, MAX_PORTS_BYTES));
    } finally {
      this.#openLooks--;
    }
  }

  /** Nanoseconds since 1970. */
  async setClock(clockNs: bigint, signal?: AbortSignal, timeoutMs = DEFAULT_TIMEOUT_MS): Promise<void> {
    await this.#request("set the guest's clock", encodeClock(clockNs), signal, timeoutMs);
  }

  /** 16 to 512 random bytes. */
  async reseed(entropy: Uint8Array, signal?: AbortSignal, timeoutMs = DEFAULT_TIMEOUT_MS): Promise<void> {
    await this.#request("reseed the guest's randomness", encodeReseed(entropy), signal, timeoutMs);
  }

  /** Everything written in the guest is on its disk afterwards. */
  async sync(signal?: AbortSignal, timeoutMs = SYNC_TIMEOUT_MS): Promise<void> {
    await this.#request("write the guest's files to disk", encodeSync(), signal, timeoutMs);
  }

  /** Does once, in a machine that is to be copied, what each of its copies would do: they are ready sooner. */
  async prepareCopies(signal?: AbortSignal, timeoutMs = DEFAULT_TIMEOUT_MS): Promise<void> {
    await this.#request('prepare the guest to be copied', encodePrepareCopies(), signal, timeoutMs);
  }

  /**
   * Waits until nothing runs in the guest and nothing is under way, everything written: it can be frozen then, once this client
   * is closed. A machine that is to become a template must besides never have been configured.
   * @throws {BangerError} `timeout`, `cancelled`, `channel_broken`, `guest_failed`
   */
  async settle(signal?: AbortSignal, timeoutMs = SETTLE_TIMEOUT_MS): Promise<GuestHealth> {
    const until = performance.now() + timeoutMs;
    for (;;) {
      await this.sync(signal);
      const health = await this.health(signal);
      if (health.idle) return health;
      if (performance.now() >= until) throw busy(timeoutMs);
      await sleep(SETTLE_POLL_MS);
    }
  }

  /** The guest answers after its processes are gone and its disk is clean, and then turns itself off. */
  async powerOff(
    graceMs: number,
    signal?: AbortSignal,
    timeoutMs = graceMs + POWER_OFF_MARGIN_MS,
  ): Promise<void> {
    await this.#request('power the guest off', encodePowerOff(graceMs), signal, timeoutMs);
  }

  async mount(request: MountRequest, signal?: AbortSignal, timeoutMs = MOUNT_TIMEOUT_MS): Promise<void> {
    const what = `mount ${request.device} in the guest`;
    await this.#request(what, encodeMount(request), signal, timeoutMs);
  }

  /**
   * Starts a program. Attach a sink (or `relay`) in the same turn, or at leisure: what comes before is kept within the windows.
   * @throws {BangerError} `bad_request`, `limit_exceeded`, `channel_broken`
   */
  exec(request: ExecRequest): GuestStream {
    return this.#session.open(encodeExec(request));
  }

  /**
   * Connects to a TCP port as a program in the guest would. Channel 0 and 1 are the connection's two directions, each with its
   * own end; it is over with *done*, and *failed* when it could not be made or was reset. `reset` resets it.
   * @throws {BangerError} `bad_request`, `limit_exceeded`, `channel_broken`
   */
  connectTo(request: ConnectRequest): GuestStream {
    const stream = this.#session.open(encodeConnect(request));
    this.#openConnections++;
    void stream.result.then(() => this.#openConnections--);
    return stream;
  }

  /**
   * Writes files below a directory of the guest, each whole under its final name or not at all. `check` records come first: unless all
   * of them hold, nothing is written. Nothing but the signal limits its time.
   * @throws {ArchiveConflicts} a check did not hold
   * @throws {BangerError} `bad_request`, `not_found`, `no_space`, `guest_failed`, `cancelled`, `channel_broken`, `limit_exceeded`; and
   *   whatever the source of the records throws
   */
  async unpack(
    request: UnpackRequest,
    records: AsyncIterable<ArchiveRecord> | Iterable<ArchiveRecord>,
    signal?: AbortSignal,
  ): Promise<void> {
    const payload = encodeUnpack(request);
    const what = 'write files in the guest';
    await sendArchive(() => this.#session.open(payload), records, { what, signal });
  }

  /**
   * Reads files of the guest: records as they come, no faster than they are taken. Leaving the loop ends it.
   * @throws {BangerError} when first asked for a record or later: as `unpack`; `guest_failed` also for more than the limits
   */
  pack(
    request: PackRequest,
    limits: ArchiveLimits,
    signal?: AbortSignal,
  ): AsyncGenerator<ArchiveRecord, void, undefined> {
    const payload = encodePack(request);
    const what = 'read files in the guest';
    return receiveArchive(() => this.#session.open(payload), limits, { what, signal });
  }

  /** Hangs up: the guest resets every stream and waits for the next connection. Idempotent. */
  close(): void {
    this.#session.close();
  }

  async #request(
    what: string,
    payload: Uint8Array,
    signal: AbortSignal | undefined,
    timeoutMs: number,
    maxOutputBytes = 0,
  ): Promise<Buffer> {
    const { stdout, result } = await collect(() => this.#session.open(payload), {
      what,
      timeoutMs,
      signal,
      maxOutputBytes,
    });
    if (result.kind === 'done' && result.status === 0) return stdout;
    throw new BangerError('guest_failed', `cannot ${what}: the agent answered as if a program had run`);
  }
}

function rejection(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

function cancelled(): BangerError {
  return new BangerError('cancelled', 'connecting to the guest was cancelled');
}

function busy(timeoutMs: number): BangerError {
  return new BangerError('timeout', `the guest had work under way for ${timeoutMs / 1000} s`);
}

function silent(timeoutMs: number): BangerError {
  return new BangerError('timeout', `the guest's agent did not answer within ${timeoutMs / 1000} s`, {
    hint: 'the VM’s console log may say why: banger vm logs shows it',
  });
}
