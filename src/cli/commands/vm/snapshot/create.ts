import { formatDuration } from '../../../../core/units.ts';
import { defineCommand, oneArgument } from '../../../command.ts';
import { completeVms } from '../../../complete-names.ts';
import { jsonFlag, text, toggle } from '../../../flags.ts';
import { withProgress } from '../../../long-call.ts';
import { printJson } from '../../../output/json.ts';
import { styleFor } from '../../../output/style.ts';
import { withClient } from '../../../with-client.ts';

export const command = defineCommand({
  description:
    'Keeps this moment of a VM under a name, and prints the name. Of a VM that runs or is paused: its programs, memory and ' +
    'disk; it goes on, after standing still for the moment that is shown. Of a stopped one: its disk.',
  examples: [
    { line: 'banger vm snapshot create dev', brief: 'named dev-1' },
    { line: 'banger vm snapshot create dev --name before-upgrade', brief: 'with a name of its own' },
    {
      line: 'banger vm snapshot create dev --disk-only',
      brief: 'smaller, and good for any version of everything',
    },
  ],
  argument: oneArgument('VM', 'Name or id of a VM', completeVms),
  flags: {
    name: text('NAME', 'Name of the snapshot. Default: made of the name of the VM'),
    'disk-only': toggle('Leave the memory out: what is made of it boots'),
    json: jsonFlag,
  },
  async run(context, flags, [ref = '']) {
    const params = {
      ref,
      ...(flags.name !== undefined && { name: flags.name }),
      ...(flags['disk-only'] && { diskOnly: true }),
    };
    const taken = await withClient(context, (client) =>
      withProgress(context, (work) => client.call('snapshot.create', params, work)),
    );
    if (flags.json) {
      printJson(context.stdout, taken);
      return;
    }
    context.stdout.write(`${taken.snapshot.name}\n`);
    if (taken.pauseMs === 0) return;
    const style = styleFor(context.stderr, context.env);
    context.stderr.write(
      `${style.dim(`${taken.snapshot.vm.name} stood still for ${formatDuration(taken.pauseMs)}`)}\n`,
    );
  },
});
