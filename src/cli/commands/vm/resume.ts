import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatDone } from '../../output/vm-table.ts';

export const command = defineCommand({
  description:
    'Lets paused and saved VMs go on where they stood, and sets their clocks. For a VM that runs already only its clock is set.',
  examples: [
    { line: 'banger vm resume dev', brief: 'one VM' },
    { line: 'banger vm resume dev web db', brief: 'several at once' },
  ],
  argument: manyArguments('VM', 'Names or ids of VMs', completeVms),
  flags: { json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'resuming',
      refs,
      json: flags.json,
      act: (client, ref, { signal, onProgress }) => client.call('vm.resume', { ref }, { signal, onProgress }),
      print: formatDone('resumed'),
    }),
});
