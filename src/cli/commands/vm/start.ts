import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatDone } from '../../output/vm-table.ts';

export const command = defineCommand({
  description:
    'Boots VMs that are created, stopped or in error; their disks are as they were left. Saved ones go on where they stood, as with ' +
    '"vm resume".',
  examples: [
    { line: 'banger vm start dev', brief: 'one VM' },
    { line: 'banger vm start dev web db', brief: 'several at once' },
  ],
  argument: manyArguments('VM', 'Names or ids of VMs', completeVms),
  flags: { json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'starting',
      refs,
      json: flags.json,
      act: (client, ref, { signal, onProgress }) => client.call('vm.start', { ref }, { signal, onProgress }),
      print: formatDone('started'),
    }),
});
