/** OPEN payloads: each operation of docs/agent-protocol.md with its parameters. */

import { MAX_OPEN_PAYLOAD_BYTES } from '../core/channel/frame.ts';
import { BangerError } from '../core/errors.ts';
import type { GuestConfig } from '../core/guestconfig/guest-config.ts';

const OPERATIONS = {
  exec: 1,
  configure: 2,
  health: 3,
  ports: 4,
  clock: 5,
  reseed: 6,
  sync: 7,
  powerOff: 8,
  mount: 9,
  connect: 10,
  prepareCopies: 11,
  unpack: 12,
  pack: 13,
} as const;

const EXEC_TTY = 1;
const EXEC_STDIN = 2;
const CONFIGURE_HAND_OVER_INIT = 1;
const CONFIGURE_PROVISIONAL = 2;
const FILE_KEEP_FOREIGN = 0x10000;
const MOUNT_READ_ONLY = 1;
const UNPACK_MARK = 1;
const UNPACK_BASE_MUST_EXIST = 2;
const PACK_FOLLOW = 1;
const PACK_ENTRY_ONLY = 2;

export interface ExecRequest {
  /** Empty: the user's login shell. */
  readonly argv: readonly string[];
  /** Added to the agent's own basic environment, which it overrides. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default: the user's home. */
  readonly cwd?: string | undefined;
  /** `name`, `uid`, `name:group` or `uid:gid`. Default: root. */
  readonly user?: string | undefined;
  /** A terminal instead of pipes: then there is no stderr of its own. */
  readonly tty?: boolean;
  /** Whether input will be sent; otherwise the program reads /dev/null. */
  readonly stdin?: boolean;
  /** Size of the terminal; 0 is unknown. */
  readonly rows?: number;
  readonly columns?: number;
}

export interface MountRequest {
  /** E.g. `/dev/vdb`. */
  readonly device: string;
  readonly type: 'squashfs';
  readonly target: string;
  /** Without an overlay: nothing can be written. */
  readonly readOnly: boolean;
  /** `[a-z0-9-]{1,32}`: names the overlay's directories in the guest. */
  readonly label: string;
}

export interface ConnectRequest {
  /** Numeric, IPv4 or IPv6. Default: the guest's loopback, 127.0.0.1 and then ::1. */
  readonly address?: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** A path in the guest: text, or the bytes it has. */
export type GuestPath = string | Uint8Array;

export interface UnpackRequest {
  /** The directory that paths are relative to; absolute. Symbolic links on the way to it are followed, below it none is. */
  readonly base: GuestPath;
  /** The upper directory of the overlay that is mounted at `base`: what is not in it is as it was shipped. */
  readonly upper?: GuestPath | undefined;
  /**
   * Below `base`: where files lie until they have their names, and what an archive left there whose machine lost its power is removed.
   * Made if missing, but not the directory it is in: without that they lie beside their names. For one archive at a time.
   */
  readonly staging?: GuestPath;
  /** Mark what is written as shipped, for `check` records of later archives. */
  readonly marksShipped?: boolean;
  /** Fail when `base` does not exist. Otherwise it is made, 0755, with the directories above it. */
  readonly baseMustExist?: boolean;
}

export interface PackRequest {
  /** As for UNPACK. */
  readonly base: GuestPath;
  /** Relative to it, and so they come back; an empty one is everything in it. At most 65536. */
  readonly paths: readonly GuestPath[];
  /** What a path leads to where it is a symbolic link itself. */
  readonly follow?: boolean;
  /** Just what is at the paths: files without their data, directories without what is in them. */
  readonly entryOnly?: boolean;
}

/** @throws {BangerError} `bad_request` (NUL, a bad variable name), `limit_exceeded` (over 1 MiB in total) */
export function encodeExec(request: ExecRequest): Uint8Array {
  const flags = (request.tty === true ? EXEC_TTY : 0) | (request.stdin === true ? EXEC_STDIN : 0);
  const env = Object.entries(request.env ?? {});
  const parts = new PayloadParts()
    .u8(OPERATIONS.exec)
    .u32(flags)
    .u16(request.rows ?? 0)
    .u16(request.columns ?? 0)
    .text(request.user ?? '', 'the user')
    .text(request.cwd ?? '', 'the working directory')
    .u32(request.argv.length);
  for (const [index, item] of request.argv.entries()) parts.text(item, `argument ${index}`);
  parts.u32(env.length);
  for (const [name, value] of env) {
    if (name === '' || name.includes('=')) {
      throw new BangerError('bad_request', `"${name}" cannot be the name of an environment variable`);
    }
    parts.text(`${name}=${value}`, `the environment variable ${name}`);
  }
  return parts.join('the command line and environment');
}

/** @throws {BangerError} `bad_request`, `limit_exceeded` */
export function encodeConfigure(config: GuestConfig): Uint8Array {
  const parts = new PayloadParts()
    .u8(OPERATIONS.configure)
    .text(config.hostname, 'the host name')
    .u32(config.files.length);
  for (const file of config.files) {
    const mode = file.keepForeign === true ? file.mode | FILE_KEEP_FOREIGN : file.mode;
    parts.text(file.path, 'a path').u32(mode).u32(file.uid).u32(file.gid).blob(file.content);
  }
  return parts
    .u64(config.clockNs)
    .blob(config.entropy)
    .text(config.address, 'the address')
    .text(config.gateway, 'the gateway')
    .u32(
      (config.handOverInit ? CONFIGURE_HAND_OVER_INIT : 0) |
        (config.isProvisional ? CONFIGURE_PROVISIONAL : 0),
    )
    .text(config.mac, 'the MAC')
    .text(config.bootId, 'the boot id')
    .text(config.machineId, 'the machine id')
    .u64(BigInt(config.rootDiskBytes))
    .join("the guest's configuration");
}

export function encodeHealth(): Uint8Array {
  return Uint8Array.of(OPERATIONS.health);
}

export function encodePorts(): Uint8Array {
  return Uint8Array.of(OPERATIONS.ports);
}

export function encodeSync(): Uint8Array {
  return Uint8Array.of(OPERATIONS.sync);
}

export function encodePrepareCopies(): Uint8Array {
  return Uint8Array.of(OPERATIONS.prepareCopies);
}

/** Nanoseconds since 1970. */
export function encodeClock(clockNs: bigint): Uint8Array {
  return new PayloadParts().u8(OPERATIONS.clock).u64(clockNs).join('the clock');
}

/** 16 to 512 bytes. */
export function encodeReseed(entropy: Uint8Array): Uint8Array {
  return new PayloadParts().u8(OPERATIONS.reseed).blob(entropy).join('the entropy');
}

export function encodePowerOff(graceMs: number): Uint8Array {
  return new PayloadParts().u8(OPERATIONS.powerOff).u32(graceMs).join('the grace');
}

/** @throws {BangerError} `bad_request` */
export function encodeMount(request: MountRequest): Uint8Array {
  return new PayloadParts()
    .u8(OPERATIONS.mount)
    .text(request.device, 'the device')
    .text(request.type, 'the type')
    .text(request.target, 'the target')
    .u32(request.readOnly ? MOUNT_READ_ONLY : 0)
    .text(request.label, 'the label')
    .join('the mount');
}

/** @throws {BangerError} `bad_request` */
export function encodeConnect(request: ConnectRequest): Uint8Array {
  return new PayloadParts()
    .u8(OPERATIONS.connect)
    .text(request.address ?? '', 'the address')
    .u16(request.port)
    .join('the address');
}

/** @throws {BangerError} `bad_request` */
export function encodeUnpack(request: UnpackRequest): Uint8Array {
  return new PayloadParts()
    .u8(OPERATIONS.unpack)
    .path(request.base)
    .path(request.upper ?? '')
    .path(request.staging ?? '')
    .u32(
      (request.marksShipped === true ? UNPACK_MARK : 0) |
        (request.baseMustExist === true ? UNPACK_BASE_MUST_EXIST : 0),
    )
    .join('the paths');
}

/** @throws {BangerError} `bad_request`, `limit_exceeded` (over 1 MiB of paths) */
export function encodePack(request: PackRequest): Uint8Array {
  const parts = new PayloadParts()
    .u8(OPERATIONS.pack)
    .path(request.base)
    .u32((request.follow === true ? PACK_FOLLOW : 0) | (request.entryOnly === true ? PACK_ENTRY_ONLY : 0))
    .u32(request.paths.length);
  for (const path of request.paths) parts.path(path);
  return parts.join('the paths');
}

/** Little-endian parameters one after another. */
class PayloadParts {
  readonly #parts: Uint8Array[] = [];

  u8(value: number): this {
    return this.#number(1, (bytes) => bytes.writeUInt8(value));
  }

  u16(value: number): this {
    return this.#number(2, (bytes) => bytes.writeUInt16LE(value));
  }

  u32(value: number): this {
    return this.#number(4, (bytes) => bytes.writeUInt32LE(value));
  }

  u64(value: bigint): this {
    return this.#number(8, (bytes) => bytes.writeBigUInt64LE(value));
  }

  /** `what` names the text in the message about a NUL in it. */
  text(value: string, what: string): this {
    if (value.includes('\0')) throw new BangerError('bad_request', `${what} contains a NUL character`);
    return this.blob(Buffer.from(value));
  }

  path(value: GuestPath): this {
    const bytes = Buffer.from(value);
    if (bytes.includes(0)) throw new BangerError('bad_request', 'a path contains a NUL character');
    return this.blob(bytes);
  }

  blob(value: Uint8Array): this {
    this.u32(value.length);
    this.#parts.push(value);
    return this;
  }

  join(what: string): Uint8Array {
    const bytes = Buffer.concat(this.#parts);
    if (bytes.length <= MAX_OPEN_PAYLOAD_BYTES) return bytes;
    throw new BangerError(
      'limit_exceeded',
      `${what} have ${bytes.length} bytes, more than the ${MAX_OPEN_PAYLOAD_BYTES} that fit`,
      { hint: 'pass long input on stdin instead' },
    );
  }

  #number(size: number, write: (bytes: Buffer) => void): this {
    const bytes = Buffer.alloc(size);
    write(bytes);
    this.#parts.push(bytes);
    return this;
  }
}
