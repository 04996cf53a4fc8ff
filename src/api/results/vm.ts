/** Results of the methods about VMs and what runs in them. */

import type { VmRecord } from '../../core/model/vm.ts';
import type { ToolingPlan } from '../../core/toolingplan/model.ts';
import type { StreamTicket } from './stream.ts';
import type { WorkspaceDrift, WorkspaceReport } from './workspace.ts';

export interface ExecTicket extends StreamTicket {
  /** Null where nobody asked. */
  readonly drift: WorkspaceDrift | null;
}

/** A VM as clients see it: the row plus what is true now. */
export interface VmView extends VmRecord {
  /** Its own address on this host, where the ports of its programs appear; null: it has none (its row is damaged). */
  readonly hostAddress: string | null;
  readonly pid: number | null;
  readonly vmDir: string;
}

export interface VmDetail extends VmView {
  /** The VMM's whole command line: of the running process, or of the next start. */
  readonly argv: readonly string[];
  readonly consoleLogPath: string;
  readonly vmmLogPath: string;
}

export interface VmCreated {
  readonly vm: VmView;
  readonly workspace: WorkspaceReport | null;
  /** What that repository asks for; nothing of it is installed yet: `vm.bootstrap`. */
  readonly tools: ToolingPlan | null;
  /** From the request to the guest's readiness. */
  readonly elapsedMs: number;
}

export interface ToolsInstalled {
  /** Its absolute path in the guest; null: it has none, and only files of other tools asked. */
  readonly mise: string | null;
  /** In the guest. */
  readonly logPath: string;
}

export interface VmForked {
  readonly vms: readonly VmView[];
  /** How long the source stood still. */
  readonly pauseMs: number;
  /** From the request until all of them can be used. */
  readonly elapsedMs: number;
}

/** A port that is listened on in the guest, or published and not listened on. */
export interface PortEntry {
  readonly protocol: 'tcp' | 'udp';
  /** Null: nothing listens there that a published port would reach. */
  readonly address: string | null;
  readonly port: number;
  readonly pid: number | null;
  readonly process: string | null;
  /** `<name>.vm:port`. */
  readonly endpoint: string;
  /** Where on the host it is published: `127.0.0.1:8080`. */
  readonly published: readonly string[];
  /** Where on the host it appears by itself, on the VM's own address: `127.107.251.2:8000`. Null: nowhere. */
  readonly forwarded: string | null;
  /** Why it does not, although it could. */
  readonly problem: string | null;
  /** Of a web server, going by the number: `http://dev.vm:8000/`. For a host that knows names of VMs. */
  readonly url: string | null;
}

export interface VmHealth {
  readonly reachable: true;
  readonly roundTripMs: number;
  readonly uptimeMs: number;
  readonly bootId: string;
  readonly memoryTotalKib: number;
  readonly memoryAvailableKib: number;
  readonly load1: number;
  readonly processes: number;
  readonly diskTotalBytes: number;
  readonly diskFreeBytes: number;
  readonly init: string;
}

/** What an ssh client of this host uses: its files are there now. */
export interface SshSetup {
  /** ssh_config(5) for hosts NAME.vm; `config` is what is in it. */
  readonly configFile: string;
  readonly config: string;
  readonly identityFile: string;
  readonly knownHostsFile: string;
  /** `<name>.vm` of the VM that was asked for. */
  readonly host: string | null;
}

/** What `vm cp` has copied. */
export interface VmCopied {
  readonly vm: string;
  readonly files: number;
  readonly directories: number;
  readonly links: number;
  /** Of the files' data; holes do not count. */
  readonly bytes: number;
  /** Devices, sockets and FIFOs that were left out: paths of the side they are on, at most 100 of them. */
  readonly skipped: readonly string[];
  readonly skippedCount: number;
}
