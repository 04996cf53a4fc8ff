import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatDone } from '../../output/vm-table.ts';

export const command = defineCommand({
  description:
    'Asks the guest to write its data to disk and to power off; a guest that does not answer is ended after a short wait.',
  examples: [
    { line: 'banger vm stop dev', brief: 'one VM' },
    { line: 'banger vm stop dev web db', brief: 'several at once' },
  ],
  argument: manyArguments('VM', 'Names or ids of VMs', completeVms),
  flags: { json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'stopping',
      refs,
      json: flags.json,
      act: (client, ref, { signal, onProgress }) => client.call('vm.stop', { ref }, { signal, onProgress }),
      print: formatDone('stopped'),
    }),
});
