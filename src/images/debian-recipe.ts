/** What goes into the images banger builds from Debian, and what is changed on the way: data, no code that runs in a guest. */

import type { AptSource } from './apt-sources.ts';
import { formatSources } from './apt-sources.ts';
import { DEFAULT_KERNEL_NAME } from './kernel-build.ts';

export interface ImageRecipe {
  readonly distro: string;
  /** Release of Debian the packages come from. */
  readonly release: string;
  readonly kernelName: string;
  readonly packages: readonly string[];
}

export const DEFAULT_IMAGE_NAME = 'debian-bookworm';

/** Long lists read better as text. */
function words(text: string): readonly string[] {
  return text.trim().split(/\s+/);
}

/** What a developer expects in a fresh machine, without compilers: those are one `apt-get install` away. */
const PACKAGES = words(`
  bash less vim-tiny file patch procps psmisc lsof sudo tzdata jq git make python3-minimal
  ca-certificates curl wget gpg openssh-client openssh-server rsync iproute2 iputils-ping netbase
  netcat-openbsd bzip2 unzip xz-utils zip zstd dbus e2fsprogs kmod systemd systemd-sysv
`);

/** The images banger knows how to make, by name. */
export const IMAGE_RECIPES: Readonly<Record<string, ImageRecipe>> = {
  [DEFAULT_IMAGE_NAME]: {
    distro: 'debian-bookworm',
    release: 'bookworm',
    kernelName: DEFAULT_KERNEL_NAME,
    packages: PACKAGES,
  },
};

/** dpkg settings while the image is built and afterwards in the guest: no manuals, documentation or translations. */
export const DPKG_EXCLUDES = [
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/info/*',
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
  'path-exclude=/usr/share/locale/*',
  'path-include=/usr/share/locale/locale.alias',
];

/** A change to the tree after the packages are in. Everything belongs to root. */
export type TreeEdit =
  | { readonly kind: 'remove'; readonly path: string }
  /** Everything in a directory, but not the directory. */
  | { readonly kind: 'empty'; readonly path: string }
  | { readonly kind: 'directory'; readonly path: string; readonly mode: number }
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly text: string }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string };

/** Section 1.5 of the reference: root by key only. One host key type: generating an RSA key takes long in an emulated guest. */
const SSHD_CONFIG = `PermitRootLogin prohibit-password
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile /root/.ssh/authorized_keys
HostKey /etc/ssh/ssh_host_ed25519_key
`;

/** The image has no host key: each VM makes its own before sshd's own check for one. */
const SSH_UNIT = `[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c 'test -s /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStartPre=/usr/sbin/sshd -t
`;

/** Units that wait for devices or networks the guest gets from the agent, and housekeeping a sandbox does not need; logind serves nobody without libpam-systemd. */
const MASKED_UNITS = words(`
  getty.target getty-static.service getty@tty1.service console-getty.service
  serial-getty@ttyS0.service dev-ttyS0.device dev-hvc0.device systemd-networkd-wait-online.service
  systemd-udev-settle.service systemd-repart.service systemd-firstboot.service
  systemd-machine-id-commit.service systemd-pstore.service systemd-update-utmp.service
  systemd-update-utmp-runlevel.service systemd-binfmt.service systemd-pcrphase.service
  systemd-pcrphase-sysinit.service systemd-random-seed.service systemd-ask-password-console.path
  systemd-ask-password-wall.path systemd-initctl.socket dev-hugepages.mount dev-mqueue.mount
  proc-sys-fs-binfmt_misc.automount sys-kernel-config.mount sys-kernel-debug.mount
  sys-kernel-tracing.mount sys-fs-fuse-connections.mount apt-daily.timer apt-daily-upgrade.timer
  e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer remote-fs.target
  kmod-static-nodes.service systemd-modules-load.service systemd-logind.service
`);

/** Each generator is a fork and exec at every boot, for things this image does not have. */
const MASKED_GENERATORS = words(`
  cryptsetup debug getty gpt-auto hibernate-resume integritysetup rc-local run system-update sysv
  veritysetup
`);

/** The changes for a Debian image, in order. */
export function debianEdits(sources: readonly AptSource[]): readonly TreeEdit[] {
  return [...leftovers(), ...packageManager(sources), ...identity(), ...services()];
}

/** What installing left behind: caches, logs, backups, and keys that every VM would share. */
function leftovers(): readonly TreeEdit[] {
  const emptied = ['var/lib/apt/lists', 'var/cache/apt', 'var/log/apt', 'var/log/journal', 'tmp', 'run'];
  const removed = words(`
    var/log/dpkg.log var/log/alternatives.log var/log/bootstrap.log var/cache/ldconfig/aux-cache
    etc/shadow- etc/passwd- etc/group- etc/gshadow- etc/.pwd.lock
    etc/ssh/ssh_host_rsa_key etc/ssh/ssh_host_ecdsa_key etc/ssh/ssh_host_ed25519_key
    etc/ssh/ssh_host_rsa_key.pub etc/ssh/ssh_host_ecdsa_key.pub etc/ssh/ssh_host_ed25519_key.pub
  `);
  return [
    ...emptied.map((path): TreeEdit => ({ kind: 'empty', path })),
    ...removed.map((path): TreeEdit => ({ kind: 'remove', path })),
  ];
}

/** apt and dpkg as the guest is to have them: the build's unsafe-io setting and mmdebstrap's file names stay behind. */
function packageManager(sources: readonly AptSource[]): readonly TreeEdit[] {
  return [
    { kind: 'empty', path: 'etc/apt/sources.list.d' },
    { kind: 'remove', path: 'etc/apt/apt.conf.d/99mmdebstrap' },
    { kind: 'remove', path: 'etc/dpkg/dpkg.cfg.d/99mmdebstrap' },
    file('etc/apt/sources.list.d/debian.sources', formatSources(guestSources(sources), { indexOnly: false })),
    file('etc/apt/apt.conf.d/90banger', 'Acquire::Languages "none";\n'),
    file('etc/dpkg/dpkg.cfg.d/90banger', `${DPKG_EXCLUDES.join('\n')}\n`),
    directory('var/cache/apt/archives/partial', 0o700),
    directory('var/lib/apt/lists/partial', 0o700),
  ];
}

/** Nothing here tells one VM from another: the agent writes names, addresses and keys at each boot. */
function identity(): readonly TreeEdit[] {
  return [
    file('etc/machine-id', ''),
    symlink('var/lib/dbus/machine-id', '/etc/machine-id'),
    file('etc/hostname', 'banger\n'),
    file('etc/hosts', '127.0.0.1 localhost\n127.0.1.1 banger\n::1 localhost ip6-localhost ip6-loopback\n'),
    file('etc/resolv.conf', ''),
    file('etc/fstab', ''),
    file('etc/default/locale', 'LANG=C.UTF-8\n'),
    directory('root', 0o700),
    directory('root/.ssh', 0o700),
    directory('var/lib/banger', 0o755),
  ];
}

function services(): readonly TreeEdit[] {
  return [
    file('etc/ssh/sshd_config.d/99-banger.conf', SSHD_CONFIG),
    file('etc/systemd/system/ssh.service.d/10-banger.conf', SSH_UNIT),
    symlink('etc/systemd/system/default.target', '/lib/systemd/system/multi-user.target'),
    file('etc/systemd/journald.conf.d/10-banger.conf', '[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n'),
    file('etc/systemd/system.conf.d/10-banger.conf', '[Manager]\nDefaultTimeoutStopSec=10s\nShowStatus=no\n'),
    ...MASKED_UNITS.map((unit) => symlink(`etc/systemd/system/${unit}`, '/dev/null')),
    ...MASKED_GENERATORS.map((name) =>
      symlink(`etc/systemd/system-generators/systemd-${name}-generator`, '/dev/null'),
    ),
  ];
}

function file(path: string, text: string): TreeEdit {
  return { kind: 'file', path, text, mode: 0o644 };
}

function directory(path: string, mode: number): TreeEdit {
  return { kind: 'directory', path, mode };
}

function symlink(path: string, target: string): TreeEdit {
  return { kind: 'symlink', path, target };
}

/** A mirror on the host's own loopback is not there for the guest: Debian's takes its place. */
function guestSources(sources: readonly AptSource[]): readonly AptSource[] {
  return sources.map((source) => {
    if (!/^https?:\/\/(localhost|127\.|\[::1\])/.test(source.uri)) return source;
    const isSecurity = source.suite.endsWith('-security');
    return { ...source, uri: `http://deb.debian.org/debian${isSecurity ? '-security' : ''}` };
  });
}
