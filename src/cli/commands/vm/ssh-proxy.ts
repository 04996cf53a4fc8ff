import { describeFailure } from '../../../core/channel/close.ts';
import { BangerError } from '../../../core/errors.ts';
import { VM_SUFFIX } from '../../../core/ssh/client-config.ts';
import { NO_SSHD_STATUS } from '../../../core/ssh/server-files.ts';
import type { BytePipeEnd } from '../../exec-session/run-byte-pipe.ts';
import { defineCommand, oneArgument } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    "Connects stdin and stdout to an ssh server in a VM: what an ssh client's ProxyCommand is. The server is started for this " +
    `connection alone. HOST is the name of a VM in full, with or without "${VM_SUFFIX}". A VM that sleeps is woken.`,
  examples: [{ line: 'banger vm ssh-proxy dev.vm', brief: 'what "banger ssh-config --install" has ssh run' }],
  argument: oneArgument('HOST', `Name of a VM, or NAME${VM_SUFFIX}`, completeVms),
  flags: {},
  async run(context, _flags, [host = '']) {
    const name = host.toLowerCase().replace(/\.vm$/, '');
    const end = await withClient(context, async (client) =>
      context.ports.pipe(await client.call('vm.ssh', { name })),
    );
    const failure = failureOf(end, name);
    if (failure !== undefined) throw failure;
  },
});

/** A connection that has begun and ends is no failure, whatever the status: ssh knows how it ended. */
function failureOf({ result, hasSpoken, complaint }: BytePipeEnd, name: string): BangerError | undefined {
  if (result?.kind === 'failed') {
    return new BangerError('channel_broken', `VM "${name}": ${describeFailure(result)}`, {
      hint: `banger vm show ${name}`,
    });
  }
  if (hasSpoken || result === null) return undefined;
  if (result.kind === 'done' && result.status === NO_SSHD_STATUS) {
    return new BangerError('unsupported', `VM "${name}" has no ssh server in its image: there is no sshd`, {
      hint: `install it there: banger vm exec ${name} -- apt-get install -y openssh-server (the VM needs --nat for that)`,
    });
  }
  const why = complaint === '' ? `it ended at once` : complaint;
  return new BangerError('guest_failed', `the ssh server in VM "${name}" does not start: ${why}`);
}
