/**
 * What an ssh server in a guest needs, whatever the image has configured: its files lie below /run, which is in memory, and nothing of
 * the image is read or changed. sshd serves one connection on its stdin and stdout (sshd(8), -i) and listens nowhere.
 */

import { encodeUtf8 } from '../channel/utf8.ts';
import type { GuestFile } from '../guestconfig/guest-config.ts';

const DIR = '/run/banger-ssh';
const HOST_KEY = `${DIR}/host_key`;
const AUTHORIZED_KEYS = `${DIR}/authorized_keys`;
const CONFIG = `${DIR}/sshd_config`;

/** sshd_config(5). Without PAM, which an image may have set up in any way; so nothing of it is asked, and it says nothing. */
const SSHD_CONFIG = `# Made by banger, for connections over its own channel: see "banger vm ssh".
HostKey ${HOST_KEY}
AuthorizedKeysFile ${AUTHORIZED_KEYS}
PermitRootLogin prohibit-password
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes yes
LoginGraceTime 60
AllowAgentForwarding yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
GatewayPorts no
PermitTunnel no
PermitUserEnvironment no
X11Forwarding no
PrintMotd no
PrintLastLog no
AcceptEnv LANG LC_* COLORTERM NO_COLOR
LogLevel ERROR
Subsystem sftp internal-sftp
`;

/** Exit status when the guest has no sshd: as a shell's for a command that is not there. */
export const NO_SSHD_STATUS = 127;

/** /run/sshd is where Debian's sshd locks its unprivileged part in; its own service makes it, and removes it again. */
const START = `[ -d /run/sshd ] || mkdir -p -m 755 /run/sshd
for dir in /usr/sbin /usr/local/sbin /sbin /usr/bin /run/current-system/sw/bin; do
  [ -x "$dir/sshd" ] && exec "$dir/sshd" -i -e -f ${CONFIG}
done
exit ${NO_SSHD_STATUS}`;

/** One connection's server. */
export const SSHD_ARGV: readonly string[] = ['/bin/sh', '-c', START];

/**
 * @param keys the host's private key as its file has it, and the line of the user's public key. The public one is for every user
 *   of the guest to read: sshd does so as the user who logs in
 */
export function sshServerFiles(keys: {
  readonly hostKey: Uint8Array;
  readonly authorizedKey: string;
}): readonly GuestFile[] {
  const owner = { uid: 0, gid: 0 };
  return [
    { path: HOST_KEY, mode: 0o600, ...owner, content: keys.hostKey },
    { path: AUTHORIZED_KEYS, mode: 0o644, ...owner, content: encodeUtf8(`${keys.authorizedKey}\n`) },
    { path: CONFIG, mode: 0o644, ...owner, content: encodeUtf8(SSHD_CONFIG) },
  ];
}
