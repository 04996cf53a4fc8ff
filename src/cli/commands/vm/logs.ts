import { defineCommand, oneArgument } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { count, toggle } from '../../flags.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    "Prints the guest's console: its kernel, its init and the agent. With --vmm, what the VM process itself wrote.",
  examples: [
    { line: 'banger vm logs dev --tail 20', brief: 'the last lines' },
    { line: 'banger vm logs dev -f', brief: 'and what follows, until Ctrl-C' },
    { line: 'banger vm logs dev --vmm', brief: 'why a VM did not start' },
  ],
  argument: oneArgument('VM', 'Name or id of a VM', completeVms),
  flags: {
    follow: toggle('Go on printing until Ctrl-C', { letter: 'f' }),
    tail: count('N', 'Only the last N lines', 0, { letter: 'n' }),
    vmm: toggle("The VM process's own log instead of the console"),
    json: toggle('Print errors as JSON on stderr'),
  },
  run: (context, flags, [ref = '']) =>
    withClient(context, async (client) => {
      using interruption = context.ports.interruption();
      const ticket = await client.call(
        'vm.logs',
        {
          ref,
          follow: flags.follow,
          source: flags.vmm ? 'vmm' : 'console',
          ...(flags.tail !== undefined && { tailLines: flags.tail }),
        },
        { signal: interruption.signal },
      );
      try {
        await context.ports.copyStream(ticket, interruption.signal);
      } catch (error) {
        // Ctrl-C is how following ends.
        if (!flags.follow || !interruption.signal.aborted) throw error;
      }
    }),
});
