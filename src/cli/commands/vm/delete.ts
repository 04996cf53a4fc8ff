import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatDone } from '../../output/vm-table.ts';

export const command = defineCommand({
  description: 'Stops VMs and removes them and their disks. There is no way back.',
  examples: [
    { line: 'banger vm delete dev', brief: 'one VM' },
    { line: 'banger vm delete dev web db', brief: 'several at once' },
  ],
  argument: manyArguments('VM', 'Names or ids of VMs', completeVms),
  flags: { json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'deleting',
      refs,
      json: flags.json,
      act: (client, ref, { signal, onProgress }) => client.call('vm.delete', { ref }, { signal, onProgress }),
      print: formatDone('deleted'),
    }),
});
