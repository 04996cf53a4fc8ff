import { defineCommand, oneArgument } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { longCall } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'Installs the tools that the repo copied into the VM asks for, with the mise of its image, as "vm run PATH --nat" does: ' +
    'again after a failure, or once mise is there. Commands in the repo are run with them from then on. ' +
    'What mise says goes to /var/log/banger-bootstrap.log in the VM.',
  examples: [
    { line: 'banger vm bootstrap dev', brief: 'install what its repo asks for' },
    { line: 'banger vm exec dev -- tail /var/log/banger-bootstrap.log', brief: 'what mise said' },
  ],
  argument: oneArgument('VM', 'Name or id of a running VM', completeVms),
  flags: { json: jsonFlag },
  async run(context, flags, [ref = '']) {
    const installed = await withClient(context, (client) =>
      longCall(context, client, 'vm.bootstrap', { ref }),
    );
    if (flags.json) printJson(context.stdout, installed);
    else if (installed.mise === null)
      context.stderr.write('banger: the VM has no mise: nothing was installed\n');
    else context.stdout.write(`installed with ${installed.mise}\n`);
    return installed.mise === null ? 1 : 0;
  },
});
