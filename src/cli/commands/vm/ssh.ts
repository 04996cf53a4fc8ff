import { STATUS_BANGER_FAILED } from '../../../core/channel/close.ts';
import { defineCommand, oneArgument } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { toggle } from '../../flags.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    "Runs this host's ssh client, as root in a running VM; one that sleeps is woken. What follows -- goes to ssh: options, then a " +
    "command for the VM's shell. No server listens anywhere: the VM's sshd is started for this connection, which takes the way " +
    'that "vm exec" takes, so the VM needs no network. Exits with the status of ssh: that of the command, 255 when ssh failed; ' +
    '125 when banger itself failed. For ssh, scp, rsync, git and editors by themselves: "banger ssh-config".',
  examples: [
    { line: 'banger vm ssh dev', brief: 'a shell in it' },
    { line: "banger vm ssh dev -- 'cd repo && make | tail'", brief: "a command for the VM's shell" },
    {
      line: 'banger vm ssh dev -- -L 8080:localhost:80 -N',
      brief: "the VM's port 80 is localhost:8080 here, until Ctrl-C",
    },
  ],
  argument: oneArgument('VM', 'Name or id of a running VM', completeVms),
  commandBrief: 'Options of ssh, and a command. Default: a login shell',
  flags: { json: toggle('Print errors as JSON on stderr') },
  ownFailureStatus: () => STATUS_BANGER_FAILED,
  async run(context, _flags, [ref = '']) {
    const { configFile, host } = await withClient(context, (client) => client.call('ssh.setup', { ref }));
    const args = ['-F', configFile, host ?? '', ...(context.commandArgv ?? [])];
    return await context.ports.become('ssh', args, 'openssh-client');
  },
});
