/** One QEMU process behind the Machine port. */

import type { Socket } from 'node:net';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errorText } from '../../core/errors.ts';
import type { Log } from '../../host/log.ts';
import type {
  FrozenState,
  Machine,
  MachineExit,
  MachineHandles,
  MachineRunState,
  UserNetwork,
  SaveOptions,
} from '../driver.ts';
import type { VmmProcess } from '../process.ts';
import { readThrough } from '../read-through.ts';
import { isTimeout, tryConnect, unlessAborted } from '../waits.ts';
import { memoryFileOf, memoryBytesOf, plugging } from './config.ts';
import { runState } from './migration.ts';
import { QmpClient, type QmpEvent } from './qmp.ts';
import { save } from './save.ts';

const CHANNEL_RETRY_MS = 4;
/** QEMU binds its sockets some tens of milliseconds after its start: found at most a fifth of that later. */
const CONTROL_FIRST_MS = 20;
const CONTROL_RETRY_MS = 4;
const CONTROL_RETRY_FACTOR = 1.2;
const CONTROL_RETRY_MAX_MS = 5000;
/** QEMU's sockets close a moment before its process is gone. */
const CONFIRM_EXIT_MS = 1000;
const CONFIRM_POLL_MS = 10;
/** For QEMU's control socket to be there: at once with a machine that runs. */
const CONTROL_TIMEOUT_MS = 10_000;
/** QEMU answers `stop` only when all that was under way to the disks has been written and flushed. */
const PAUSE_TIMEOUT_MS = 30_000;
/** How often a guest that was halted because the host's disk is full gets to try again. */
const RESUME_MS = 5000;

/** Beside the other sockets of the machine, and no longer than they are. */
const STATE_SOCKET = 'state.sock';

/** Paused, and paused and saved (or tried to be): qapi/run-state.json. */
const STANDS = new Set(['paused', 'finish-migrate', 'postmigrate']);

export interface QemuMachineOptions {
  readonly log: Log;
  /** It has been running for long: an adopted one. A new one may still end over its own arguments. */
  readonly isUp: boolean;
  readonly resumeMs?: number;
}

export class QemuMachine implements Machine {
  readonly handles: MachineHandles;
  readonly #process: VmmProcess;
  readonly #log: Log;
  readonly #resumeMs: number;
  readonly #released = new AbortController();
  /** Settles when QEMU runs its main loop, or there is no more waiting for that. */
  readonly #up = Promise.withResolvers<void>();
  /** The connection to the control socket: settles when there is one, and is replaced when that ends. */
  #control = Promise.withResolvers<QmpClient>();
  /** A connection to the channel that was made before the guest ran, until somebody asks for one. */
  #ahead: Socket | undefined;
  #resuming = false;
  /** It was paused on request: a full disk that has space again is no reason to go on. */
  #held = false;

  constructor(handles: MachineHandles, vmm: VmmProcess, options: QemuMachineOptions) {
    this.handles = handles;
    this.#process = vmm;
    this.#resumeMs = options.resumeMs ?? RESUME_MS;
    this.#log = options.log.child({ vmmPid: handles.pid });
    if (options.isUp) this.#up.resolve();
    void vmm.exited.then(() => this.#released.abort());
    this.#released.signal.addEventListener('abort', () => this.#up.resolve());
    void this.#watchControl(options.isUp);
  }

  get exited(): Promise<MachineExit> {
    return this.#process.exited;
  }

  /**
   * QEMU binds its sockets before it looks at kernel and disks. A connection made in that moment would end without a
   * word, so one to a new machine waits until the control socket answers.
   */
  async connectChannel(signal: AbortSignal): Promise<Duplex> {
    const over = AbortSignal.any([signal, this.#released.signal]);
    await unlessAborted(this.#up.promise, over);
    const ahead = this.#ahead;
    this.#ahead = undefined;
    if (ahead !== undefined && !ahead.destroyed) return ahead;
    for (;;) {
      this.#process.check();
      if (this.#process.exit !== undefined) throw await this.#process.deathError();
      if (over.aborted) throw new BangerError('cancelled', 'connecting to the guest was cancelled');
      const socket = await tryConnect(this.handles.channelSocketPath);
      if (socket !== undefined && !over.aborted) return socket;
      socket?.destroy();
      await sleep(CHANNEL_RETRY_MS, undefined, { signal: over }).catch(() => {});
    }
  }

  /**
   * For a machine that is about to be restored: a guest that had a connection when it was saved goes on with one, and is
   * spared the news of its end and of the next one.
   */
  async connectAhead(): Promise<void> {
    this.#ahead = await tryConnect(this.handles.channelSocketPath);
    this.#ahead?.on('error', () => {});
  }

  async pause(): Promise<void> {
    const wasHeld = this.#held;
    this.#held = true;
    try {
      await this.#command('stop', PAUSE_TIMEOUT_MS);
    } catch (error) {
      this.#held = wasHeld;
      throw error;
    }
  }

  async resume(): Promise<void> {
    await this.#command('cont');
    this.#held = false;
  }

  /** A guest that a full disk halted counts as running, because it goes on by itself; not one that was paused besides. */
  async runState(): Promise<MachineRunState> {
    const over = AbortSignal.timeout(CONTROL_TIMEOUT_MS);
    const status = await this.withControl(over, (qmp) => runState(qmp));
    return STANDS.has(status) || (status === 'io-error' && this.#held) ? 'paused' : 'running';
  }

  async plug(network: UserNetwork): Promise<void> {
    await this.withControl(AbortSignal.timeout(CONTROL_TIMEOUT_MS), async (qmp) => {
      for (const netdev of plugging(network)) await qmp.execute('netdev_add', netdev);
    });
  }

  async prepareSave(signal: AbortSignal): Promise<void> {
    const path = memoryFileOf(this.handles.argv);
    if (path === undefined) return;
    try {
      await readThrough(path, signal);
    } catch (error) {
      // It may be gone by now, and QEMU has it open all the same.
      this.#log.debug({ reason: errorText(error) }, 'could not read the memory file ahead');
    }
  }

  async save(options: SaveOptions): Promise<FrozenState> {
    const { argv, controlSocketPath } = this.handles;
    const memoryBytes = memoryBytesOf(argv);
    if (memoryBytes === undefined) {
      throw new BangerError(
        'unsupported',
        'the machine was started by a version that could not save machines',
      );
    }
    const socketPath = join(dirname(controlSocketPath), STATE_SOCKET);
    return await this.withControl(options.signal, async (qmp) => {
      return await save({ qmp, memoryBytes, socketPath }, options);
    });
  }

  /**
   * Works with the connection that is kept, because QEMU serves one client at a time, as soon as there is one. When the
   * process ends meanwhile, its last words are the error.
   * @throws {BangerError} `vmm_failed`, `cancelled`, `timeout` (the signal was a time limit), what `work` throws
   */
  async withControl<T>(signal: AbortSignal, work: (qmp: QmpClient) => Promise<T>): Promise<T> {
    const over = AbortSignal.any([signal, this.#released.signal]);
    const qmp = await unlessAborted(this.#control.promise, over);
    if (qmp !== undefined) {
      try {
        return await work(qmp);
      } catch (error) {
        if (!(error instanceof BangerError) || error.code !== 'vmm_failed') throw error;
        await this.#confirmExit();
        throw this.#process.exit === undefined ? error : await this.#process.deathError();
      }
    }
    this.#process.check();
    if (this.#process.exit !== undefined) throw await this.#process.deathError();
    if (isTimeout(signal)) throw new BangerError('timeout', "QEMU's control socket did not answer in time");
    throw new BangerError('cancelled', 'talking to QEMU was cancelled');
  }

  async kill(): Promise<void> {
    await this.#process.kill();
  }

  release(): void {
    this.#ahead?.destroy();
    this.#released.abort();
    this.#process.release();
  }

  async #command(name: string, timeoutMs?: number): Promise<void> {
    await this.withControl(AbortSignal.timeout(CONTROL_TIMEOUT_MS), (qmp) =>
      qmp.execute(name, {}, timeoutMs),
    );
  }

  /**
   * Keeps a connection to the control socket: its end tells at once that a process which is no child has ended,
   * and its events tell that QEMU halted the guest.
   */
  async #watchControl(isUp: boolean): Promise<void> {
    if (!isUp) await this.#wait(CONTROL_FIRST_MS);
    let retryMs = CONTROL_RETRY_MS;
    while (!this.#released.signal.aborted) {
      try {
        const qmp = await QmpClient.connect(this.handles.controlSocketPath, {
          onEvent: (event, client) => this.#onEvent(event, client),
          signal: this.#released.signal,
        });
        this.#up.resolve();
        retryMs = CONTROL_RETRY_MS;
        await this.#hold(qmp);
      } catch (error) {
        if (error instanceof BangerError) this.#log.debug({ reason: errorText(error) }, 'no control socket');
        else throw error;
      }
      await this.#wait(retryMs);
      retryMs = Math.min(retryMs * CONTROL_RETRY_FACTOR, CONTROL_RETRY_MAX_MS);
    }
  }

  async #hold(qmp: QmpClient): Promise<void> {
    const onRelease = (): void => qmp.close();
    this.#released.signal.addEventListener('abort', onRelease);
    try {
      if (this.#released.signal.aborted) return;
      this.#control.resolve(qmp);
      if (await isHalted(qmp)) this.#resumeLater(qmp);
      await qmp.closed;
    } finally {
      this.#control = Promise.withResolvers();
      this.#released.signal.removeEventListener('abort', onRelease);
      qmp.close();
    }
    await this.#confirmExit();
  }

  /** Waits a moment for the end of a process whose sockets have closed. */
  async #confirmExit(): Promise<void> {
    const until = performance.now() + CONFIRM_EXIT_MS;
    while (!this.#released.signal.aborted && performance.now() < until) {
      this.#process.check();
      await this.#wait(CONFIRM_POLL_MS);
    }
  }

  #onEvent(event: QmpEvent, qmp: QmpClient): void {
    if (event.name !== 'BLOCK_IO_ERROR') return;
    const { 'node-name': disk, operation, reason, nospace, action } = event.data;
    this.#log.error({ disk, operation, reason, nospace, action }, 'a disk of the VM failed on the host');
    if (action === 'stop') this.#resumeLater(qmp);
  }

  /**
   * QEMU halts a guest whose write met a full host disk rather than fail the write: nothing is lost, and the write is
   * repeated when the guest goes on. Until there is space it is halted again.
   */
  #resumeLater(qmp: QmpClient): void {
    if (this.#resuming) return;
    this.#resuming = true;
    void this.#wait(this.#resumeMs)
      .then(async () => {
        this.#resuming = false;
        if (this.#released.signal.aborted || !(await isHalted(qmp)) || this.#held) return;
        await qmp.execute('cont');
      })
      .catch((error: unknown) => this.#log.warn({ err: error }, 'could not resume the VM'));
  }

  async #wait(delayMs: number): Promise<void> {
    await sleep(delayMs, undefined, { signal: this.#released.signal }).catch(() => {});
  }
}

async function isHalted(qmp: QmpClient): Promise<boolean> {
  return (await runState(qmp)) === 'io-error';
}
