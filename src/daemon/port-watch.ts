/**
 * Finds out what is listened on in running VMs, so that it appears on their own addresses. The guest is asked when there is
 * reason to think that something has changed: a command runs or has just run in it, or its VMM takes CPU time, which costs the
 * guest nothing to notice; and else rarely. Asking is no use of a VM: it wakes none and keeps none awake.
 */

import { errorText } from '../core/errors.ts';
import type { GuestPort } from '../guest/answers.ts';
import type { Log } from '../host/log.ts';
import { type ProcessUsage, processUsage } from '../host/proc.ts';
import type { LiveVm } from './services/vms/live-vm.ts';
import type { PortForwards } from './services/ports/port-forwards.ts';
import type { VmRegistry } from './services/vms/vm-registry.ts';

const TICK_MS = 1000;
/** After a command has begun or ended: its server may be up by then. */
const SOON_MS = 200;
/** … and this long it is asked at every tick. */
const STIRRED_MS = 5000;
/** A guest that does nothing takes 1 to 2 % of a CPU under emulation; a server that starts takes more, for a moment. */
const BUSY_CPU_SHARE = 0.03;
/** While a command runs: it may be a server itself, or a person at a shell. Asking takes some 20 ms of CPU time under emulation. */
const OFTEN_MS = 2000;
/** A server that takes next to nothing to start, and that nobody's command has started, is found after this. */
const RARELY_MS = 30_000;
const ASK_TIMEOUT_MS = 5000;
/** A guest with many processes takes long to answer: asking is to take a tenth of its time at most … */
const COST_FACTOR = 10;
/** … and one that does not answer is let alone for this long, which is also the most. */
const LET_ALONE_MS = 5000;

export interface PortWatchOptions {
  readonly registry: Pick<VmRegistry, 'find' | 'live' | 'allLive' | 'update'>;
  readonly forwards: Pick<PortForwards, 'follow'>;
  readonly log: Log;
  /** Default: this host's. */
  readonly host?: WatchHost;
}

export interface WatchHost {
  /** As `performance.now`. */
  readonly monotonicMs: () => number;
  readonly usageOf: (pid: number) => ProcessUsage | undefined;
}

const THIS_HOST: WatchHost = { monotonicMs: () => performance.now(), usageOf: processUsage };

interface Watched {
  readonly live: LiveVm;
  cpu: { readonly cpuMs: number; readonly atMs: number } | undefined;
  askedAtMs: number;
  /** The last answer took that long. */
  tookMs: number;
  /** It is let alone until then. */
  notBeforeMs: number;
  stirredUntilMs: number;
  isAsking: boolean;
  soon: NodeJS.Timeout | undefined;
}

export class PortWatch {
  readonly #options: PortWatchOptions;
  readonly #host: WatchHost;
  readonly #watched = new Map<string, Watched>();
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: PortWatchOptions) {
    this.#options = options;
    this.#host = options.host ?? THIS_HOST;
  }

  /** Until then nobody is asked. */
  start(): void {
    this.#timer = setInterval(() => this.tick(), TICK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#stop.abort();
    for (const { soon } of this.#watched.values()) clearTimeout(soon);
  }

  /** Something has begun or ended in a VM. */
  stirred(vmId: string): void {
    const watched = this.#watchedOf(vmId);
    if (watched === undefined || this.#timer === undefined) return;
    watched.stirredUntilMs = this.#host.monotonicMs() + STIRRED_MS;
    watched.soon ??= setTimeout(() => {
      watched.soon = undefined;
      void this.#ask(vmId, watched);
    }, SOON_MS).unref();
  }

  /** What a guest says that it listens on, whoever asked it. Never rejects. */
  async heard(vmId: string, listening: readonly GuestPort[]): Promise<void> {
    const { registry, forwards, log } = this.#options;
    try {
      const forwarded = await forwards.follow(vmId, listening);
      const vm = registry.find(vmId);
      if (forwarded === undefined || vm === undefined) return;
      if (JSON.stringify(forwarded) === JSON.stringify(vm.runtime.forwarded ?? [])) return;
      registry.update(vmId, vm.state, { forwarded: forwarded.length === 0 ? undefined : forwarded });
    } catch (error) {
      log.warn({ vm: vmId, err: error }, 'could not remember the ports of a VM');
    }
  }

  /** One look at every VM that runs. */
  tick(): void {
    const { registry } = this.#options;
    for (const id of this.#watched.keys()) if (registry.live(id) === undefined) this.#forget(id);
    for (const { id } of registry.allLive()) {
      const watched = this.#watchedOf(id);
      if (watched !== undefined && this.#isDue(watched)) void this.#ask(id, watched);
    }
  }

  #watchedOf(vmId: string): Watched | undefined {
    const live = this.#options.registry.live(vmId);
    const known = this.#watched.get(vmId);
    if (live === undefined || known?.live === live) return known;
    this.#forget(vmId);
    // One that has just started has nothing to tell yet, unless it stirs.
    const fresh: Watched = {
      live,
      cpu: undefined,
      askedAtMs: this.#host.monotonicMs(),
      tookMs: 0,
      notBeforeMs: 0,
      stirredUntilMs: 0,
      isAsking: false,
      soon: undefined,
    };
    this.#watched.set(vmId, fresh);
    return fresh;
  }

  #forget(vmId: string): void {
    clearTimeout(this.#watched.get(vmId)?.soon);
    this.#watched.delete(vmId);
  }

  #isDue(watched: Watched): boolean {
    const nowMs = this.#host.monotonicMs();
    const takesCpuTime = this.#takesCpuTime(watched, nowMs);
    if (nowMs < watched.notBeforeMs) return false;
    const sinceMs = nowMs - watched.askedAtMs;
    if (sinceMs >= RARELY_MS || (watched.live.isBusy && sinceMs >= OFTEN_MS)) return true;
    return takesCpuTime || nowMs < watched.stirredUntilMs;
  }

  /** Since the last look or answer; of the first look nothing is known. */
  #takesCpuTime(watched: Watched, atMs: number): boolean {
    const usage = this.#host.usageOf(watched.live.machine.handles.pid);
    const before = watched.cpu;
    watched.cpu = usage && { cpuMs: usage.cpuMs, atMs };
    if (usage === undefined || before === undefined) return false;
    return usage.cpuMs - before.cpuMs > (atMs - before.atMs) * BUSY_CPU_SHARE;
  }

  async #ask(vmId: string, watched: Watched): Promise<void> {
    const { registry, log } = this.#options;
    const isRunning = (): boolean =>
      registry.live(vmId) === watched.live && registry.find(vmId)?.state === 'running';
    const begunMs = this.#host.monotonicMs();
    if (watched.isAsking || begunMs < watched.notBeforeMs || !isRunning()) return;
    watched.isAsking = true;
    try {
      const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(ASK_TIMEOUT_MS)]);
      const agent = await watched.live.agent(signal, ASK_TIMEOUT_MS);
      const listening = await agent.ports(signal, ASK_TIMEOUT_MS);
      if (isRunning()) await this.heard(vmId, listening);
      const endedMs = this.#host.monotonicMs();
      const tookMs = endedMs - begunMs;
      // One that was slow once need not be so again: the first answer after a start is.
      const usualMs = Math.min(tookMs, watched.tookMs);
      watched.tookMs = tookMs;
      watched.notBeforeMs = endedMs + Math.min(usualMs * COST_FACTOR, LET_ALONE_MS);
    } catch (error) {
      log.debug({ vm: vmId, reason: errorText(error) }, 'a guest did not say what it listens on');
      // One that was put to sleep meanwhile may go on at any moment.
      if (isRunning()) watched.notBeforeMs = this.#host.monotonicMs() + LET_ALONE_MS;
    } finally {
      watched.askedAtMs = this.#host.monotonicMs();
      // What the answer took must not be a reason to ask again.
      this.#takesCpuTime(watched, watched.askedAtMs);
      watched.isAsking = false;
    }
  }
}
