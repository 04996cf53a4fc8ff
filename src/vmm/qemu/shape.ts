/**
 * The shape of a QEMU machine: its command line without what is its own, and what the command line only names.
 * QEMU itself checks little of that: with another CPU model it loads a state and the guest then hangs. Pure.
 */

import type { MachineSpec, ShapeDigests } from '../driver.ts';
import type { MachineShape } from '../shape.ts';
import { machineArgv } from './config.ts';

export interface ShapeFacts {
  /** What the program says of itself: version and build. */
  readonly vmm: string;
  /** Which file the program is, and which content it has. */
  readonly program: string;
  readonly digests: ShapeDigests;
  readonly tscKhz: number | undefined;
  /** What a guest that runs on the host's own CPU sees of it; anything where the CPU is emulated. */
  readonly hostCpu: string;
}

/** Options of the command line that get an entry of their own, under a name for people. */
const NAMED_OPTIONS = {
  '-M': 'machine',
  '-accel': 'accelerator',
  '-cpu': 'CPU model',
  '-smp': 'vCPUs',
  '-m': 'memory',
  '-append': 'kernel command line',
  '-device': 'devices',
} as const;

export function qemuShape(spec: MachineSpec, facts: ShapeFacts): MachineShape {
  const [, ...argv] = machineArgv('qemu', impersonal(spec), facts.tscKhz);
  const named: Record<string, string> = {};
  const rest: string[] = [];
  // Every option of ours has a value but these two flags: whichever word is no value goes to the rest.
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (!isNamed(word)) {
      rest.push(word);
      continue;
    }
    at += 1;
    const name = NAMED_OPTIONS[word];
    named[name] = [named[name] ?? [], argv[at] ?? ''].flat().join(' ');
  }
  return {
    ...named,
    driver: 'qemu',
    VMM: facts.vmm,
    'VMM program': facts.program,
    kernel: facts.digests.kernel,
    initramfs: facts.digests.initramfs,
    'host CPU': spec.platform.accelerator === 'kvm' ? facts.hostCpu : 'emulated',
    'other arguments': rest.join(' '),
  };
}

function isNamed(word: string): word is keyof typeof NAMED_OPTIONS {
  return Object.hasOwn(NAMED_OPTIONS, word);
}

/**
 * The spec with one and the same name, paths and addresses for every machine. A card's MAC address comes out of the
 * state, and what it is plugged into is not the guest's to see.
 */
function impersonal(spec: MachineSpec): MachineSpec {
  return {
    ...spec,
    name: '',
    memory: { kind: 'anonymous' },
    kernelPath: '/kernel',
    initramfsPath: '/initramfs',
    disks: spec.disks.map((disk) => ({ ...disk, path: '/disk' })),
    network: spec.network.kind === 'none' ? spec.network : { kind: 'unplugged', mac: '52:54:00:00:00:01' },
    socketDir: '/sockets',
    consoleLogPath: '/console.log',
    vmmLogPath: '/vmm.log',
  };
}
