/** One Firecracker process behind the Machine port. */

import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { BangerError, errorText } from '../../core/errors.ts';
import type { Log } from '../../host/log.ts';
import type {
  FrozenState,
  Machine,
  MachineExit,
  MachineHandles,
  MachineRunState,
  SaveOptions,
} from '../driver.ts';
import type { VmmProcess } from '../process.ts';
import { readThrough } from '../read-through.ts';
import { type ApiLimits, type ApiRequest, callApi, NotListening } from './api.ts';
import { connectWithin } from './channel.ts';
import { AGENT_PORT, runRequest } from './config.ts';
import { save } from './save.ts';

/** It listens some milliseconds after its start. */
const UP_RETRY_MS = 4;
const UP_TIMEOUT_MS = 10_000;
const CHANNEL_RETRY_MS = 10;
/** Its sockets close a moment before its process is gone. */
const CONFIRM_EXIT_MS = 1000;
const CONFIRM_POLL_MS = 10;
const PAUSE_TIMEOUT_MS = 30_000;

/** Definition InstanceInfo, as far as it matters here. */
const instanceSchema = z.object({ state: z.enum(['Not started', 'Running', 'Paused']) });
export type InstanceState = z.infer<typeof instanceSchema>['state'];

const versionSchema = z.object({ firecracker_version: z.string().max(64) });

export interface FirecrackerMachineOptions {
  readonly log: Log;
  /** Where a restored machine's memory comes from, as far as this process knows. */
  readonly memoryPath?: string;
}

export class FirecrackerMachine implements Machine {
  readonly handles: MachineHandles;
  readonly #process: VmmProcess;
  readonly #log: Log;
  readonly #memoryPath: string | undefined;
  readonly #released = new AbortController();
  /** Connections to the agent. */
  readonly #channels = new Set<Socket>();
  /** Saved since it was paused, or that was tried. */
  #saveTried = false;

  constructor(handles: MachineHandles, vmm: VmmProcess, options: FirecrackerMachineOptions) {
    this.handles = handles;
    this.#process = vmm;
    this.#log = options.log.child({ vmmPid: handles.pid });
    this.#memoryPath = options.memoryPath;
    void vmm.exited.then(() => this.#released.abort());
  }

  get exited(): Promise<MachineExit> {
    return this.#process.exited;
  }

  async connectChannel(signal: AbortSignal): Promise<Duplex> {
    const over = AbortSignal.any([signal, this.#released.signal]);
    const check = async (): Promise<void> => {
      this.#process.check();
      if (this.#process.exit !== undefined) throw await this.#process.deathError();
    };
    const path = this.handles.channelSocketPath;
    const socket = await connectWithin(path, AGENT_PORT, CHANNEL_RETRY_MS, over, check);
    if (socket !== undefined) {
      this.#channels.add(socket);
      socket.once('close', () => this.#channels.delete(socket));
      return socket;
    }
    await check();
    throw new BangerError('cancelled', 'connecting to the guest was cancelled');
  }

  /** What the guest has handed to its disks is written as it is handed over: Firecracker's default, "Sync". */
  async pause(): Promise<void> {
    await this.call(runRequest('Paused'), { timeoutMs: PAUSE_TIMEOUT_MS });
  }

  async resume(): Promise<void> {
    await this.call(runRequest('Resumed'));
    this.#saveTried = false;
  }

  async runState(): Promise<MachineRunState> {
    return (await this.instanceState()) === 'Paused' ? 'paused' : 'running';
  }

  async plug(): Promise<void> {
    throw new BangerError('unsupported', 'a machine of Firecracker has no network to plug in');
  }

  async prepareSave(signal: AbortSignal): Promise<void> {
    if (this.#memoryPath === undefined) return;
    try {
      await readThrough(this.#memoryPath, signal);
    } catch (error) {
      this.#log.debug({ reason: errorText(error) }, 'could not read the memory file ahead');
    }
  }

  /**
   * Firecracker tells the guest that all its vsock connections have ended, as part of saving: the guest hangs up as soon as it
   * runs again, and says nothing of it. So this side hangs up, too.
   */
  async save(options: SaveOptions): Promise<FrozenState> {
    if (options.signal.aborted) throw new BangerError('cancelled', 'saving the machine was cancelled');
    const state = await this.instanceState();
    if (state !== 'Paused' || this.#saveTried) {
      const why = state === 'Paused' ? 'has been saved since it was paused' : `is "${state}", not paused`;
      throw new BangerError('invalid_state', `the machine ${why}, or that was tried`, {
        hint: 'it must go on and be paused again before it can be saved again',
      });
    }
    const onCreate = (): void => {
      this.#saveTried = true;
      for (const channel of this.#channels) channel.destroy();
    };
    return await save({ call: (request, limits) => this.call(request, limits), onCreate }, options);
  }

  /** @throws {BangerError} as `call` */
  async instanceState(limits?: ApiLimits): Promise<InstanceState> {
    const instance = instanceSchema.safeParse(await this.call({ method: 'GET', path: '/' }, limits));
    if (instance.success) return instance.data.state;
    throw new BangerError('vmm_failed', 'Firecracker does not say what it does');
  }

  /** Waits until it listens. @returns its version @throws {BangerError} `vmm_failed`, `timeout`, `cancelled` */
  async up(signal: AbortSignal): Promise<string> {
    const late = AbortSignal.timeout(UP_TIMEOUT_MS);
    for (;;) {
      try {
        const said = versionSchema.safeParse(
          await this.call({ method: 'GET', path: '/version' }, { signal }),
        );
        if (said.success) return said.data.firecracker_version;
        throw new BangerError('vmm_failed', 'Firecracker names no version');
      } catch (error) {
        if (!(error instanceof NotListening)) throw error;
        if (late.aborted) throw new BangerError('timeout', 'Firecracker does not open its API socket');
      }
      await sleep(UP_RETRY_MS);
    }
  }

  /**
   * One request. When the process ends meanwhile, its last words are the error.
   * @throws {NotListening} it still runs
   * @throws {BangerError} `vmm_failed`, `timeout`, `cancelled`
   */
  async call(request: ApiRequest, limits?: ApiLimits): Promise<unknown> {
    try {
      return await callApi(this.handles.controlSocketPath, request, limits);
    } catch (error) {
      if (!(error instanceof BangerError) || error.code !== 'vmm_failed') throw error;
      await this.#confirmExit(error instanceof NotListening ? 0 : CONFIRM_EXIT_MS);
      if (this.#process.exit === undefined) throw error;
      const death = await this.#process.deathError();
      throw new BangerError('vmm_failed', `${death.message}; ${error.message}`, { cause: death });
    }
  }

  async kill(): Promise<void> {
    await this.#process.kill();
  }

  release(): void {
    this.#released.abort();
    this.#process.release();
  }

  async #confirmExit(withinMs: number): Promise<void> {
    const until = performance.now() + withinMs;
    this.#process.check();
    while (this.#process.exit === undefined && performance.now() < until) {
      await sleep(CONFIRM_POLL_MS, undefined, { signal: this.#released.signal }).catch(() => {});
      if (this.#released.signal.aborted) return;
      this.#process.check();
    }
  }
}
