/** What a guest is told about itself (CONFIGURE in docs/agent-protocol.md), made from facts. */

import { encodeUtf8 } from '../channel/utf8.ts';
import { type GitIdentity, gitConfigText } from './git-identity.ts';

export interface GuestFile {
  readonly path: string;
  /** Permission bits, e.g. 0o644. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly content: Uint8Array;
  /** What is there stays, unless it is empty, an empty line, or has the same first line. */
  readonly keepForeign?: boolean;
}

export interface GuestConfig {
  readonly hostname: string;
  readonly files: readonly GuestFile[];
  /** Wall clock, nanoseconds since 1970. */
  readonly clockNs: bigint;
  /** From the host's generator; mixed in before anything else. */
  readonly entropy: Uint8Array;
  /** `a.b.c.d/len`; empty: the network stays as it is. */
  readonly address: string;
  /** Empty: no default route. */
  readonly gateway: string;
  /** Hand PID 1 to the image's own init. */
  readonly handOverInit: boolean;
  /** The guest is nobody yet: another configuration comes before anyone uses it, and is the first one again. */
  readonly isProvisional: boolean;
  /** Of the one network device: a clone's has the MAC of the machine it was cloned from. Empty: as it is. */
  readonly mac: string;
  /**
   * A UUID in lower case, for a machine cloned after programs ran in it: they have read the kernel's, which all its clones
   * share. Empty: the kernel's own, which it makes up at the first reading.
   */
  readonly bootId: string;
  /** 32 lower-case hex digits (machine-id(5)). Empty: the image's file is left alone. */
  readonly machineId: string;
  /** Size the root disk has: the file system is grown to it before the answer. 0: whatever the guest sees. */
  readonly rootDiskBytes: number;
}

export interface GuestNetworkFacts {
  /** As the machine's network device was asked for. */
  readonly mac: string;
  readonly guestIp: string;
  readonly prefixLength: number;
  readonly gatewayIp: string;
  readonly dnsIp: string;
  /** The VM may reach the outside. Without it there is no default route and no name server. */
  readonly outbound: boolean;
}

export interface GuestFacts {
  /** A DNS label: the VM's name. */
  readonly hostname: string;
  readonly network: GuestNetworkFacts | null;
  /** Lines of root's authorized_keys. None: the image's file is left alone. */
  readonly authorizedKeys: readonly string[];
  readonly entropy: Uint8Array;
  /** Wall clock, nanoseconds since 1970. */
  readonly clockNs: bigint;
  readonly handOverInit: boolean;
  /** As in GuestConfig; left out is empty, 0, or false. */
  readonly isProvisional?: boolean;
  readonly bootId?: string;
  readonly machineId?: string;
  readonly rootDiskBytes?: number;
  /** Of the user here; undefined: the guest's git is not told. */
  readonly gitIdentity?: GitIdentity | undefined;
}

export function guestConfigFrom(facts: GuestFacts): GuestConfig {
  const network = facts.network;
  return {
    hostname: facts.hostname,
    files: filesFrom(facts),
    clockNs: facts.clockNs,
    entropy: facts.entropy,
    address: network === null ? '' : `${network.guestIp}/${network.prefixLength}`,
    gateway: network?.outbound === true ? network.gatewayIp : '',
    handOverInit: facts.handOverInit,
    isProvisional: facts.isProvisional ?? false,
    mac: network === null ? '' : network.mac,
    bootId: facts.bootId ?? '',
    machineId: facts.machineId ?? '',
    rootDiskBytes: facts.rootDiskBytes ?? 0,
  };
}

/** Writes these files, and leaves everything else of the guest as it is. */
export function filesOnly(files: readonly GuestFile[]): GuestConfig {
  return {
    ...{ hostname: '', files, clockNs: 0n, entropy: new Uint8Array(0), address: '', gateway: '' },
    ...{ handOverInit: false, isProvisional: false, mac: '', bootId: '', machineId: '', rootDiskBytes: 0 },
  };
}

function filesFrom(facts: GuestFacts): GuestFile[] {
  const files = [
    textFile('/etc/hostname', `${facts.hostname}\n`),
    textFile('/etc/hosts', hostsFile(facts)),
    textFile('/etc/resolv.conf', resolvConf(facts.network)),
  ];
  if (facts.authorizedKeys.length > 0) {
    const keys = facts.authorizedKeys.map((key) => `${key.trim()}\n`).join('');
    files.push({ ...textFile('/root/.ssh/authorized_keys', keys), mode: 0o600 });
  }
  if (facts.gitIdentity !== undefined) {
    files.push({ ...textFile('/etc/gitconfig', gitConfigText(facts.gitIdentity)), keepForeign: true });
  }
  return files;
}

/** The VM's own name resolves without a name server (hosts(5)). */
function hostsFile(facts: GuestFacts): string {
  const names = `${facts.hostname}.vm ${facts.hostname}`;
  const own = facts.network === null ? '127.0.1.1' : facts.network.guestIp;
  return [
    '127.0.0.1 localhost',
    `${own} ${names}`,
    '::1 localhost ip6-localhost ip6-loopback',
    'ff02::1 ip6-allnodes',
    'ff02::2 ip6-allrouters',
    '',
  ].join('\n');
}

/**
 * Written even without outbound network: a name server left from an earlier start would make every lookup wait for its
 * timeout, where an empty file fails at once (resolv.conf(5): then the name server is 127.0.0.1).
 */
function resolvConf(network: GuestNetworkFacts | null): string {
  if (network === null || !network.outbound)
    return '# no outbound network: banger vm set --nat NAME turns it on\n';
  return `nameserver ${network.dnsIp}\n`;
}

function textFile(path: string, text: string): GuestFile {
  return { path, mode: 0o644, uid: 0, gid: 0, content: encodeUtf8(text) };
}
