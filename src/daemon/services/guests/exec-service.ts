/** Programs in guests, and what guests and VMMs printed: everything that answers with a stream ticket. */

import type { Socket } from 'node:net';
import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { ExecTicket, PortEntry, VmHealth } from '../../../api/results/vm.ts';
import type { StreamTicket } from '../../../api/results/stream.ts';
import { encodeClose, ERRNO } from '../../../core/channel/close.ts';
import { encodeFrame, FRAME_TYPES } from '../../../core/channel/frame.ts';
import { errorText } from '../../../core/errors.ts';
import { withTools } from '../../../core/toolingplan/workspace-tools.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import type { ExecRequest } from '../../../guest/payloads.ts';
import { CLIENT_STREAM, relay } from '../../../guest/relay.ts';
import type { Log } from '../../../host/log.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { TicketBooth } from '../../../rpc/tickets.ts';
import { streamLog } from '../../log-stream.ts';
import { vmFiles } from '../../vm-files.ts';
import type { PortWatch } from '../../port-watch.ts';
import { portEntries } from '../ports/port-entries.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';
import type { DriftWatch } from '../workspaces/workspace-drift.ts';
import type { VmSleep } from '../vms/vm-sleep.ts';

const AGENT_TIMEOUT_MS = 10_000;
const WAKE_TIMEOUT_MS = 120_000;
const REFUSED_LINGER_MS = 5000;

export class ExecService {
  readonly #registry: VmRegistry;
  readonly #sleep: VmSleep;
  readonly #tickets: TicketBooth;
  readonly #portWatch: Pick<PortWatch, 'heard' | 'stirred'>;
  readonly #paths: BangerPaths;
  readonly #drift: DriftWatch;
  readonly #log: Log;

  constructor(deps: {
    registry: VmRegistry;
    sleep: VmSleep;
    tickets: TicketBooth;
    portWatch: Pick<PortWatch, 'heard' | 'stirred'>;
    paths: BangerPaths;
    drift: DriftWatch;
    log: Log;
  }) {
    this.#registry = deps.registry;
    this.#sleep = deps.sleep;
    this.#tickets = deps.tickets;
    this.#portWatch = deps.portWatch;
    this.#paths = deps.paths;
    this.#drift = deps.drift;
    this.#log = deps.log;
  }

  /**
   * A ticket for a program in a running VM: it is started when the ticket is presented.
   * Without a directory it runs in the workspace where there is one (root's only), else in the user's home.
   */
  async exec(params: CheckedParamsOf<'vm.exec'>, signal: AbortSignal): Promise<ExecTicket> {
    const { vm, live } = await this.#sleep.running(params.ref, 'exec', signal);
    const [drift] = await Promise.all([
      params.compareWorkspace ? this.#drift.of(vm, signal) : null,
      live.agent(signal, AGENT_TIMEOUT_MS),
    ]);
    const asRoot = params.user === undefined || params.user === 'root';
    const workspace = asRoot && !vm.workspace?.unplaced ? vm.workspace : null;
    const cwd = params.cwd ?? workspace?.guestPath ?? '';
    const ticket = this.program(vm, {
      argv: withTools(params.argv, cwd, workspace),
      env: params.env,
      cwd,
      user: params.user ?? '',
      tty: params.tty,
      stdin: params.stdin,
      rows: params.rows,
      columns: params.columns,
    });
    return { ...ticket, drift };
  }

  /** A ticket for a program in a VM that runs now. */
  program(vm: Pick<VmRecord, 'id' | 'name'>, request: ExecRequest): StreamTicket {
    return this.#issue(async (socket) => {
      // It may have been put to sleep before the ticket came.
      const inTime = AbortSignal.timeout(WAKE_TIMEOUT_MS);
      const awake = await this.#sleep.awake(vm.id, 'exec', inTime);
      const agent = await awake.agent(inTime, AGENT_TIMEOUT_MS);
      if (socket.destroyed) return;
      const stream = agent.exec(request);
      this.#portWatch.stirred(vm.id);
      await relay(stream, socket).catch((error: unknown) => {
        this.#log.warn({ vm: vm.name, err: error }, 'an exec stream broke');
      });
      this.#portWatch.stirred(vm.id);
    });
  }

  /** A ticket for a VM's log. Works in every state. */
  logs(params: CheckedParamsOf<'vm.logs'>): StreamTicket {
    const vm = this.#registry.resolve(params.ref);
    const files = vmFiles(this.#paths, vm.id);
    const path = params.source === 'vmm' ? files.vmmLog : files.consoleLog;
    return this.#issue(async (socket) => {
      await streamLog(socket, { path, follow: params.follow, tailLines: params.tailLines }).catch(
        (error: unknown) => {
          this.#log.debug({ vm: vm.name, reason: errorText(error) }, 'a log stream ended early');
        },
      );
    });
  }

  async ports(ref: string, signal: AbortSignal): Promise<readonly PortEntry[]> {
    const { vm, live } = await this.#sleep.running(ref, 'ports', signal);
    const agent = await live.agent(signal, AGENT_TIMEOUT_MS);
    const ports = await agent.ports(signal);
    await this.#portWatch.heard(vm.id, ports);
    return portEntries(this.#registry.view(this.#registry.row(vm.id)), ports);
  }

  async health(ref: string, signal: AbortSignal): Promise<VmHealth> {
    const { live } = await this.#sleep.running(ref, 'health', signal);
    const agent = await live.agent(signal, AGENT_TIMEOUT_MS);
    const begun = performance.now();
    const { configured: _configured, idle: _idle, ...health } = await agent.health(signal);
    return { reachable: true, roundTripMs: performance.now() - begun, ...health };
  }

  #issue(handler: (socket: Socket) => Promise<void>): StreamTicket {
    const ticket = this.#tickets.issue((socket) => {
      // Until the handler listens, and after: the client may be gone already.
      socket.on('error', () => undefined);
      handler(socket).catch((error: unknown) => refuse(socket, errorText(error)));
    });
    return { ticket, streamSocketPath: this.#paths.streamSocketPath };
  }
}

/** The program could not even be asked for: the client's stream ends with the reason. */
function refuse(socket: Socket, reason: string): void {
  const result = { kind: 'failed', errno: ERRNO.ECONNRESET, text: `channel: ${reason}` } as const;
  // The client may never close its side.
  const timer = setTimeout(() => socket.destroy(), REFUSED_LINGER_MS);
  socket.once('close', () => clearTimeout(timer));
  socket.resume();
  socket.end(encodeFrame(FRAME_TYPES.close, CLIENT_STREAM, 0, encodeClose(result)));
}
