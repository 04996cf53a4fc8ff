/** From a MachineSpec to Firecracker's command line and the requests that make it a running machine. Pure. */

import assert from 'node:assert/strict';
import { isAbsolute, join } from 'node:path';
import { BangerError } from '../../core/errors.ts';
import type { MachineDisk, MachineSpec, Platform } from '../driver.ts';
import type { ApiRequest } from './api.ts';

export const MACHINE = 'firecracker';
/** Where the agent listens: CHANNEL_VSOCK_PORT in guest/src/channel.h. */
export const AGENT_PORT = 1024;
/** It has a slot of its own for every device; as many as QEMU's machines, so that a VM fits both. */
export const MAX_DISKS = 6;
/** Definition MachineConfiguration. */
export const MAX_VCPUS = 32;

/** The first address that is not a well-known one: vsock(7). Each machine has its own host socket, so all can have it. */
const GUEST_CID = 3;

/**
 * A state names the files of its disks and its vsock socket as they were given, and a machine that goes on from it opens
 * the same names. So each process has a directory of its own as its working directory and is given names in that: links
 * to this machine's disks, and its own socket.
 */
const VSOCK_NAME = 'vsock.sock';
const CONTROL_SOCKET = 'api.sock';
export const OWN_LOG = 'firecracker.log';

/** Contract with the agent and the kernel: what each is for is said in ../qemu/config.ts, where it was measured. */
const KERNEL_ARGUMENTS = [
  'console=ttyS0',
  'quiet',
  'loglevel=1',
  // A panic reboots at once, and a reset by the keyboard controller is how a guest ends Firecracker.
  'panic=-1',
  'reboot=k',
  'pci=off',
  // It has no mouse and no keyboard to look for.
  'i8042.noaux',
  'i8042.nomux',
  'i8042.dumbkbd',
  'cryptomgr.notests',
  'lsm=landlock,yama',
];

export interface MachinePaths {
  readonly control: string;
  readonly channel: string;
  readonly ownLog: string;
}

export function machinePaths(socketDir: string): MachinePaths {
  return {
    control: join(socketDir, CONTROL_SOCKET),
    channel: join(socketDir, VSOCK_NAME),
    ownLog: join(socketDir, OWN_LOG),
  };
}

/** The whole command line. @throws {BangerError} `unsupported` */
export function machineArgv(path: string, spec: MachineSpec): readonly [string, ...string[]] {
  assertSupported(spec);
  const { control } = machinePaths(spec.socketDir);
  // Its own words go to a file, because the guest's console has its stdout.
  return [path, '--api-sock', control, '--id', idOf(spec.name), '--log-path', OWN_LOG, '--level', 'Warning'];
}

/** Letters, digits and hyphens, 1 to 64 of them (src/utils/src/validators.rs in its sources). */
function idOf(name: string): string {
  const plain = name.replace(/[^A-Za-z0-9-]/g, '-').slice(0, 64);
  return plain === '' ? 'vm' : plain;
}

/** Everything up to and including the start, in order. @throws {BangerError} `unsupported` */
export function bootRequests(spec: MachineSpec): readonly ApiRequest[] {
  assertSupported(spec);
  return [
    {
      method: 'PUT',
      path: '/machine-config',
      body: { vcpu_count: spec.vcpus, mem_size_mib: spec.memoryMib, smt: false },
    },
    {
      method: 'PUT',
      path: '/boot-source',
      body: {
        kernel_image_path: spec.kernelPath,
        initrd_path: spec.initramfsPath,
        boot_args: kernelCommandLine(spec),
      },
    },
    ...spec.disks.map(driveRequest),
    { method: 'PUT', path: '/vsock', body: { guest_cid: GUEST_CID, uds_path: VSOCK_NAME } },
    { method: 'PUT', path: '/entropy', body: {} },
    { method: 'PUT', path: '/actions', body: { action_type: 'InstanceStart' } },
  ];
}

/** None is the root device: that one would come first, and add words to the kernel's command line. */
function driveRequest(disk: MachineDisk): ApiRequest {
  const id = driveId(disk.id);
  const body = {
    drive_id: id,
    path_on_host: diskName(disk.id),
    is_root_device: false,
    is_read_only: disk.readOnly,
    // What the guest flushes is on the host's disk.
    cache_type: 'Writeback',
  };
  return { method: 'PUT', path: `/drives/${id}`, body };
}

/** Makes Firecracker look at the size of a disk's file again, and tell the guest. */
export function diskChangedRequest(id: string): ApiRequest {
  const drive = driveId(id);
  const body = { drive_id: drive, path_on_host: diskName(id) };
  return { method: 'PATCH', path: `/drives/${drive}`, body };
}

/** @param stateFd number of a descriptor of Firecracker's own */
export function loadRequest(stateFd: number, memoryPath: string): ApiRequest {
  const body = {
    snapshot_path: `/proc/self/fd/${stateFd}`,
    mem_backend: { backend_type: 'File', backend_path: memoryPath },
    resume_vm: false,
  };
  return { method: 'PUT', path: '/snapshot/load', body };
}

export function runRequest(state: 'Paused' | 'Resumed'): ApiRequest {
  return { method: 'PATCH', path: '/vm', body: { state } };
}

/** What a disk is called in the process's directory. */
export function diskName(id: string): string {
  return `disk-${id}`;
}

/** Letters, digits and underscores. */
function driveId(id: string): string {
  return id.replaceAll('-', '_');
}

export function kernelCommandLine({ disks }: Pick<MachineSpec, 'disks'>): string {
  const root = disks.length > 0 ? ['banger.root=/dev/vda', 'banger.rootfstype=ext4'] : [];
  return [...KERNEL_ARGUMENTS, ...root].join(' ');
}

function assertSupported(spec: MachineSpec): void {
  const { platform, vcpus, memoryMib, disks, network } = spec;
  assert(Number.isSafeInteger(vcpus) && vcpus >= 1, 'vcpus is a positive integer');
  assert(Number.isSafeInteger(memoryMib) && memoryMib >= 1, 'memoryMib is a positive integer');
  assert(disks.length <= MAX_DISKS, `at most ${MAX_DISKS} disks`);
  const paths = [spec.kernelPath, spec.initramfsPath, spec.consoleLogPath, spec.socketDir];
  for (const path of [...paths, ...disks.map((disk) => disk.path)]) assertPath(path);
  for (const { id } of disks)
    assert.match(id, /^[a-z][a-z0-9-]{0,19}$/, 'a disk id is a short lower-case word');
  if (!isOurs(platform)) {
    const what = `${platform.accelerator} (${platform.machine}) with ${platform.transport} devices`;
    throw unsupported(`Firecracker is not used with ${what}`, 'the accelerator must be probed again');
  }
  if (vcpus > MAX_VCPUS) throw unsupported(`Firecracker gives a VM at most ${MAX_VCPUS} vCPUs`);
  const foreign = disks.find((disk) => disk.format !== 'raw');
  if (foreign !== undefined) throw unsupported(`Firecracker reads no ${foreign.format} disks`);
  if (network.kind !== 'none')
    throw unsupported(`Firecracker is used without a network, not "${network.kind}"`);
}

function isOurs({ accelerator, machine, transport }: Platform): boolean {
  return accelerator === 'kvm' && machine === MACHINE && transport === 'mmio';
}

function unsupported(message: string, hint?: string): BangerError {
  return new BangerError('unsupported', message, { ...(hint === undefined ? {} : { hint }) });
}

function assertPath(path: string): void {
  assert(isAbsolute(path) && !path.includes('\0'), `an absolute path, not "${path}"`);
}
