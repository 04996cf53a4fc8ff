/**
 * What a stock ssh client is told about VMs: ssh_config(5). The server is a guest, and hostile: nothing is offered to it that was
 * not asked for on the command line.
 */

import { BangerError } from '../errors.ts';

/** NAME.vm is VM NAME. */
export const VM_SUFFIX = '.vm';

export interface ClientConfigFacts {
  /** Absolute paths. */
  readonly identityFile: string;
  readonly knownHostsFile: string;
  /** This installation's program `banger`. */
  readonly launcher: string;
  /** What it needs to find this state directory, wherever ssh is started from: BANGER_HOME or XDG_*; null: must not be set. */
  readonly environment: Readonly<Record<string, string | null>>;
}

/**
 * `%h` is what somebody wrote after `ssh`, or what a git submodule's address says, and ssh hands the whole line to the user's
 * shell. It stands in single quotes, where sh, csh and fish know no other character than these two; a host with one of
 * them is none of ours.
 */
const HOSTS = `*${VM_SUFFIX} "!*'*" "!*\\*"`;

/** @throws {BangerError} `bad_request`: a path that cannot be written there */
export function clientConfig(facts: ClientConfigFacts): string {
  const variables = Object.entries(facts.environment);
  const start = [
    'env',
    ...variables.flatMap(([name, value]) => (value === null ? [`-u ${name}`] : [])),
    ...variables.flatMap(([name, value]) => (value === null ? [] : [`${name}=${shellWord(value)}`])),
    shellWord(facts.launcher),
  ];
  const settings = [
    'User root',
    `IdentityFile ${configWord(facts.identityFile)}`,
    'IdentitiesOnly yes',
    'AddKeysToAgent no',
    'PreferredAuthentications publickey',
    `UserKnownHostsFile ${configWord(facts.knownHostsFile)}`,
    'GlobalKnownHostsFile /dev/null',
    'StrictHostKeyChecking yes',
    'HostKeyAlgorithms ssh-ed25519',
    'CheckHostIP no',
    'VerifyHostKeyDNS no',
    'UpdateHostKeys no',
    'CanonicalizeHostname no',
    'ForwardAgent no',
    'ForwardX11 no',
    'ForwardX11Trusted no',
    'Tunnel no',
    'PermitLocalCommand no',
    // As "vm exec" has it. The guest has no other locale unless somebody installs one.
    'SetEnv LANG=C.UTF-8',
    // In an emulated guest a fifth faster than the default; with KVM the processor does it.
    'Ciphers ^aes128-gcm@openssh.com',
    'LogLevel ERROR',
    'ProxyUseFdpass no',
    `ProxyCommand ${start.join(' ')} vm ssh-proxy '%h'`,
  ];
  return [
    '# Made by banger and replaced when it changes. "banger ssh-config --install" includes it in ~/.ssh/config.',
    `Host ${HOSTS}`,
    ...settings.map((line) => `  ${line}`),
    '',
  ].join('\n');
}

/** A path as the only word of an Include. @throws {BangerError} as `clientConfig` */
export function includeWord(path: string): string {
  // Include takes patterns: glob(7).
  if (/[*?[\]]/.test(path)) throw unusable(path);
  assertUsable(path);
  return `"${path}"`;
}

/** ssh replaces %x, and ${x}, in paths. */
function configWord(path: string): string {
  assertUsable(path);
  return `"${path.replaceAll('%', '%%')}"`;
}

/** ssh replaces %x in the line before the shell sees it. */
function shellWord(path: string): string {
  assertUsable(path);
  return `'${path.replaceAll('%', '%%')}'`;
}

/** Neither ssh's versions nor shells agree on how these are escaped. */
function assertUsable(path: string): void {
  if (/["'\\$]|\p{Cc}/u.test(path)) throw unusable(path);
}

function unusable(path: string): BangerError {
  return new BangerError('bad_request', `ssh cannot be told of the path ${JSON.stringify(path)}`, {
    hint: 'quotes, backslashes, "$", control characters and, for ~/.ssh/config, "*", "?" and brackets are not possible in it',
  });
}
