/** From a MachineSpec to QEMU's command line: qemu(1). Pure. */

import assert from 'node:assert/strict';
import { isAbsolute, join } from 'node:path';
import { BangerError } from '../../core/errors.ts';
import type {
  MachineDisk,
  UserNetwork,
  MachineNetwork,
  MachineSpec,
  Platform,
  Transport,
} from '../driver.ts';

/** The machine types this driver knows, and where their virtio devices sit. */
export const MACHINES = { microvm: 'mmio', q35: 'pci' } as const satisfies Record<string, Transport>;
export type QemuMachineType = keyof typeof MACHINES;

/** What the agent looks for among the guest's virtio-serial ports. */
export const AGENT_PORT_NAME = 'org.banger.agent.0';

/** A microvm may have as few as eight virtio-mmio slots; the serial device and the network take two. */
export const MAX_DISKS = 6;

/**
 * Emulated `erms` makes the kernel copy memory with `rep movsb`, byte by byte: a boot takes 1.16 times as long.
 * Every other flag that was tried made no measurable difference, so the guest keeps its smep, smap and umip.
 */
const TCG_CPU = 'max,-erms';

/**
 * Measured one by one under emulation, where a boot to the agent's hello takes 1.5 s of CPU time: without
 * `cryptomgr.notests` (self-tests of every cipher) it takes 1.3 times as long, with the distribution's whole list of
 * security modules 1.04 times. Turning off audit, kernel probes, NUMA, the watchdog or address randomisation gains nothing.
 */
const KERNEL_ARGUMENTS = [
  'console=ttyS0',
  'quiet',
  'loglevel=1',
  // A panic reboots at once, and -no-reboot turns that into the end of the process.
  'panic=-1',
  'no_timer_check',
  'cryptomgr.notests',
  // What programs sandbox themselves with.
  'lsm=landlock,yama',
];

/**
 * QEMU keeps what it translated by virtual address: programs that are loaded elsewhere each time are translated anew each
 * time. Without that an exec of a dynamically linked program takes a third of the time (measured with /bin/true). A guest
 * that wants it back writes 2 to /proc/sys/kernel/randomize_va_space.
 */
const TCG_KERNEL_ARGUMENTS: readonly string[] = ['norandmaps'];

/** Each of these was run with everything below: nothing here forks, changes its uid or its own limits. */
const SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';

const CONTROL_SOCKET = 'qmp.sock';
const CHANNEL_SOCKET = 'agent.sock';

/** A card that leads nowhere is on a hub, to which something else can be plugged later. */
const UNPLUGGED_HUB = 0;
/** What QEMU calls the memory, in the states it writes too. */
export const MEMORY_ID = 'memory';
const MEMORY_OPTION = /^memory-backend-(?:ram|file),id=memory,size=(\d+)M/;
const MIB = 1024 * 1024;

export interface SocketPaths {
  readonly control: string;
  readonly channel: string;
}

export function socketPaths(socketDir: string): SocketPaths {
  return { control: join(socketDir, CONTROL_SOCKET), channel: join(socketDir, CHANNEL_SOCKET) };
}

/** The size of a machine with this command line; undefined when it has none of ours. */
export function memoryBytesOf(argv: readonly string[]): number | undefined {
  const match = MEMORY_OPTION.exec(argv[argv.indexOf('-object') + 1] ?? '');
  return match === null ? undefined : Number(match[1]) * MIB;
}

/** The file that a restored machine's memory was mapped from; undefined for others. */
export function memoryFileOf(argv: readonly string[]): string | undefined {
  const [, path] = (argv[argv.indexOf('-object') + 1] ?? '').split(',mem-path=');
  return path?.replaceAll(',,', ',');
}

/** Whether a guest on this platform must be told the host's TSC rate: an emulated microvm has no timer to measure it by. */
export function needsTscRate(platform: Platform): boolean {
  return platform.machine === 'microvm' && platform.accelerator === 'tcg';
}

/**
 * The whole command line.
 * @param tscKhz exact rate of the host's TSC, where `needsTscRate`; a wrong one hangs the guest now and then
 * @throws {BangerError} `unsupported`: the platform needs the rate and it is unknown, or is none of ours
 */
export function machineArgv(
  qemuPath: string,
  spec: MachineSpec,
  tscKhz: number | undefined,
): readonly [string, ...string[]] {
  const { platform } = spec;
  const transport = transportOf(platform);
  assert(Number.isSafeInteger(spec.vcpus) && spec.vcpus >= 1, 'vcpus is a positive integer');
  assert(Number.isSafeInteger(spec.memoryMib) && spec.memoryMib >= 1, 'memoryMib is a positive integer');
  assert(spec.disks.length <= MAX_DISKS, `at most ${MAX_DISKS} disks`);
  for (const path of [spec.kernelPath, spec.initramfsPath, spec.consoleLogPath, spec.socketDir])
    assertPath(path);
  const sockets = socketPaths(spec.socketDir);
  return [
    qemuPath,
    ...['-name', `guest=${escapeOption(spec.name)}`],
    // A core of QEMU, which may go to a place that others read, does not hold the guest's memory.
    ...['-M', machineOptions(spec), ...acceleratorArgv(platform)],
    ...['-smp', String(spec.vcpus), '-m', `${spec.memoryMib}M`, ...memoryArgv(spec)],
    ...['-no-user-config', '-nodefaults', '-no-reboot', '-display', 'none', '-sandbox', SANDBOX],
    ...(transport === 'mmio' ? ['-global', 'virtio-mmio.force-legacy=false'] : []),
    ...['-kernel', spec.kernelPath, '-initrd', spec.initramfsPath],
    ...['-append', kernelCommandLine(spec, tscKhz)],
    ...['-chardev', `socket,id=qmp,path=${escapeOption(sockets.control)},server=on,wait=off`],
    ...['-mon', 'chardev=qmp,mode=control'],
    ...['-chardev', `file,id=console,path=${escapeOption(spec.consoleLogPath)},append=on`],
    ...['-serial', 'chardev:console'],
    ...spec.disks.flatMap((disk, index) => diskArgv(disk, index, transport)),
    ...['-device', deviceModel('virtio-serial', transport)],
    ...['-chardev', `socket,id=agent,path=${escapeOption(sockets.channel)},server=on,wait=off`],
    ...['-device', `virtserialport,chardev=agent,name=${AGENT_PORT_NAME}`],
    ...networkArgv(spec.network, transport),
  ];
}

function transportOf(platform: Platform): Transport {
  const machine = platform.machine;
  const transport = isMachineType(machine) ? MACHINES[machine] : undefined;
  if (transport === undefined || transport !== platform.transport) {
    const what = `the machine type "${machine}" with ${platform.transport} devices`;
    throw new BangerError('unsupported', `QEMU is not used with ${what}`, {
      hint: 'the accelerator must be probed again',
    });
  }
  return transport;
}

export function isMachineType(name: string): name is QemuMachineType {
  return Object.hasOwn(MACHINES, name);
}

function machineOptions({ platform }: MachineSpec): string {
  return `${platform.machine},dump-guest-core=off,memory-backend=${MEMORY_ID}`;
}

/** The same object for every machine but for where the memory lies: its name is part of a frozen machine's state. */
function memoryArgv({ memory, memoryMib }: MachineSpec): readonly string[] {
  const common = `id=${MEMORY_ID},size=${memoryMib}M`;
  if (memory.kind === 'anonymous') return ['-object', `memory-backend-ram,${common}`];
  assertPath(memory.path);
  return ['-object', `memory-backend-file,${common},share=off,mem-path=${escapeOption(memory.path)}`];
}

function acceleratorArgv({ accelerator }: Platform): readonly string[] {
  return accelerator === 'kvm'
    ? ['-accel', 'kvm', '-cpu', 'host']
    : ['-accel', 'tcg,thread=multi', '-cpu', TCG_CPU];
}

function kernelCommandLine(spec: MachineSpec, tscKhz: number | undefined): string {
  const words = [...KERNEL_ARGUMENTS];
  if (spec.platform.accelerator === 'tcg') words.push(...TCG_KERNEL_ARGUMENTS);
  if (needsTscRate(spec.platform)) {
    if (tscKhz === undefined) {
      throw new BangerError(
        'unsupported',
        'the rate of this host’s time stamp counter is not known exactly',
        {
          hint: 'the accelerator must be probed again: an emulated microvm needs that rate, q35 does not',
        },
      );
    }
    words.push(`tsc_early_khz=${tscKhz}`, 'tsc=reliable');
  }
  if (spec.disks.length > 0) words.push('banger.root=/dev/vda', 'banger.rootfstype=ext4');
  return words.join(' ');
}

/**
 * A device's model on the machine's bus. The slot is QEMU's choice: it fills those of virtio-mmio so that the guest finds
 * the devices in the order of the command line, and the first disk becomes /dev/vda (also on a PCI bus).
 */
function deviceModel(name: string, transport: Transport): string {
  return transport === 'mmio' ? `${name}-device` : `${name}-pci`;
}

/**
 * As JSON, so that no path needs escaping. Defaults that are meant: write-back caching with the guest's flushes obeyed
 * (as fast as `unsafe` in measurements), advisory locks on the file (a host program that only writes does not ask for
 * them, so it may fill a disk that the guest has read-only).
 */
function diskArgv(disk: MachineDisk, index: number, transport: Transport): readonly string[] {
  assertPath(disk.path);
  assert.match(disk.id, /^[a-z][a-z0-9-]{0,19}$/, 'a disk id is a short lower-case word');
  const common = { 'read-only': disk.readOnly, discard: 'unmap' };
  const node = {
    driver: disk.format,
    'node-name': `disk${index}`,
    ...common,
    file: { driver: 'file', filename: disk.path, ...common },
  };
  return [
    '-blockdev',
    JSON.stringify(node),
    '-device',
    `${deviceModel('virtio-blk', transport)},drive=disk${index},serial=${disk.id}`,
  ];
}

function networkArgv(network: MachineNetwork, transport: Transport): readonly string[] {
  if (network.kind === 'none') return [];
  assert.match(network.mac, /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/, 'a MAC address is six hex pairs');
  // No boot ROM: the guest never boots from the network, and the file may not be installed.
  const rom = transport === 'pci' ? ',romfile=' : '';
  return [
    '-netdev',
    netdev(network),
    '-device',
    `${deviceModel('virtio-net', transport)},netdev=net0,mac=${network.mac}${rom}`,
  ];
}

function netdev(network: Exclude<MachineNetwork, { kind: 'none' }>): string {
  // A hub with one port.
  if (network.kind === 'unplugged') return `hubport,id=net0,hubid=${UNPLUGGED_HUB}`;
  if (network.kind === 'tap') {
    return `tap,id=net0,ifname=${escapeOption(network.tap)},script=no,downscript=no`;
  }
  const { net, host, dns, dhcpstart, restrict } = userNetdev(network);
  return [
    'user,id=net0,ipv6=off',
    `net=${net},host=${host},dns=${dns},dhcpstart=${dhcpstart}`,
    `restrict=${restrict ? 'on' : 'off'}`,
  ].join(',');
}

/** NetdevUserOptions of qapi/net.json. */
function userNetdev({ guestIp, gatewayIp, dnsIp, outbound }: UserNetwork) {
  const prefixes = [guestIp, gatewayIp, dnsIp].map(prefixOf);
  assert(new Set(prefixes).size === 1, 'guest, gateway and DNS lie in one /24');
  assert(new Set([guestIp, gatewayIp, dnsIp]).size === 3, 'guest, gateway and DNS are three addresses');
  const net = `${prefixes[0]}.0/24`;
  return { ipv6: false, net, host: gatewayIp, dns: dnsIp, dhcpstart: guestIp, restrict: !outbound } as const;
}

/** What connects the hub that an unplugged card is on with a user-mode network: arguments of netdev_add, in order. */
export function plugging(network: UserNetwork) {
  return [
    { type: 'user', id: 'net1', ...userNetdev(network) },
    { type: 'hubport', id: 'net2', hubid: UNPLUGGED_HUB, netdev: 'net1' },
  ] as const;
}

function prefixOf(address: string): string {
  assert.match(address, /^\d{1,3}(\.\d{1,3}){3}$/, 'an IPv4 address');
  return address.slice(0, address.lastIndexOf('.'));
}

/** In QEMU's option strings a comma ends a value and two commas are one: qemu(1), "-drive". */
export function escapeOption(value: string): string {
  return value.replaceAll(',', ',,');
}

function assertPath(path: string): void {
  assert(isAbsolute(path) && !path.includes('\0'), `an absolute path, not "${path}"`);
}
