import { defineCommand, oneArgument } from '../../../command.ts';
import { completeVmSnapshots } from '../../../complete-names.ts';
import { jsonFlag, toggle } from '../../../flags.ts';
import { withProgress } from '../../../long-call.ts';
import { printJson } from '../../../output/json.ts';
import { withClient } from '../../../with-client.ts';

export const command = defineCommand({
  description:
    'Puts the VM of a snapshot back to that moment: its disk, and where the snapshot has them its memory and programs, which ' +
    'go on at once. What the VM has on its disk now is lost. The snapshot stays, for another time.',
  examples: [
    { line: 'banger vm stop dev', brief: 'what it has now is to be lost: end it in good order' },
    { line: 'banger vm snapshot restore before-upgrade', brief: 'and go back' },
    {
      line: 'banger vm snapshot restore before-upgrade --force',
      brief: 'the same, whatever the VM is doing',
    },
  ],
  argument: oneArgument('SNAPSHOT', 'Name or id of a snapshot', completeVmSnapshots),
  flags: {
    force: toggle('Also when the VM runs: its programs are ended', { letter: 'f' }),
    'disk-only': toggle("Leave the snapshot's memory alone: the VM is stopped afterwards"),
    json: jsonFlag,
  },
  async run(context, flags, [snapshot = '']) {
    const params = {
      snapshot,
      ...(flags.force && { force: true }),
      ...(flags['disk-only'] && { diskOnly: true }),
    };
    const vm = await withClient(context, (client) =>
      withProgress(context, (work) => client.call('snapshot.restore', params, work)),
    );
    if (flags.json) printJson(context.stdout, vm);
    else context.stdout.write(`${vm.name}: ${vm.state}, as it was\n`);
  },
});
