/** A running VM: its process and the connection to the agent in it, made again when it breaks. */

import { BangerError } from '../../../core/errors.ts';
import { AgentClient } from '../../../guest/agent-client.ts';
import type { Machine, MachineExit } from '../../../vmm/driver.ts';
import { abandonable } from '../../abandonable.ts';

/** A guest that is up answers at once; this bounds one that is not. */
const RECONNECT_TIMEOUT_MS = 10_000;
const LAST_WORDS_TIMEOUT_MS = 2000;
/** Sessions that late news of an earlier host's hangup may end before one is kept: docs/agent-protocol.md, "Opening". */
const MAX_LATE_HANGUPS = 3;

export class LiveVm {
  readonly id: string;
  readonly machine: Machine;
  /** Somebody is ending it on purpose: its exit is not news. */
  ending = false;
  #agent: AgentClient | undefined;
  #connecting: Promise<AgentClient> | undefined;
  /** Somebody was connected before: the guest may not have been told yet that they are gone. */
  #isFollower: boolean;

  /** @param origin whether the machine was started just now, or may have had another host */
  constructor(id: string, machine: Machine, origin: 'launched' | 'adopted') {
    this.id = id;
    this.machine = machine;
    this.#isFollower = origin === 'adopted';
  }

  /** Somebody's command runs in it. Connections to its ports say nothing (see PortForwards.traffic), nor do looks at them. */
  get isBusy(): boolean {
    const agent = this.#agent;
    return agent !== undefined && agent.openStreams > agent.openConnections + agent.openLooks;
  }

  get exited(): Promise<MachineExit> {
    return this.machine.exited;
  }

  /**
   * The agent, connecting first where there is no connection.
   * @throws {BangerError} `timeout`, `vmm_failed`, `channel_broken`, `version_mismatch`, `cancelled`
   */
  async agent(signal: AbortSignal, timeoutMs: number = RECONNECT_TIMEOUT_MS): Promise<AgentClient> {
    if (this.#agent !== undefined) return this.#agent;
    this.#connecting ??= this.#connect(timeoutMs).finally(() => {
      this.#connecting = undefined;
    });
    return await abandonable(this.#connecting, signal);
  }

  /** Lets go of the connection and the process without touching the guest. */
  release(): void {
    this.#agent?.close();
    this.machine.release();
  }

  async #connect(timeoutMs: number): Promise<AgentClient> {
    const signal = AbortSignal.timeout(timeoutMs);
    try {
      const agent = await this.#session(signal, timeoutMs);
      this.#agent = agent;
      this.#isFollower = true;
      void agent.closed.then(() => {
        if (this.#agent === agent) this.#agent = undefined;
      });
      return agent;
    } catch (error) {
      if (signal.aborted) {
        throw new BangerError('timeout', `the guest did not answer within ${timeoutMs / 1000} s`, {
          cause: error,
        });
      }
      throw await this.#reason(error);
    }
  }

  /** A session in which the guest has answered: one that is to be ended by late news has been by then. */
  async #session(signal: AbortSignal, timeoutMs: number): Promise<AgentClient> {
    for (let lateHangups = 0; ; lateHangups += 1) {
      const channel = await this.machine.connectChannel(signal);
      const agent = await AgentClient.connect(channel, { signal, timeoutMs });
      if (!this.#isFollower) return agent;
      try {
        await agent.health(signal, timeoutMs);
        return agent;
      } catch (error) {
        agent.close();
        const isLate = error instanceof BangerError && error.code === 'channel_broken';
        if (!isLate || lateHangups === MAX_LATE_HANGUPS) throw error;
      }
    }
  }

  /** A connection that broke may have broken because the machine died: that, with its last words, is the better answer. */
  async #reason(error: unknown): Promise<unknown> {
    if (!(error instanceof BangerError) || error.code !== 'channel_broken') return error;
    try {
      (await this.machine.connectChannel(AbortSignal.timeout(LAST_WORDS_TIMEOUT_MS))).destroy();
      return error;
    } catch (death) {
      return death instanceof BangerError && death.code === 'vmm_failed' ? death : error;
    }
  }
}
