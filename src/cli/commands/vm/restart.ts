import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatDone } from '../../output/vm-table.ts';

export const command = defineCommand({
  description:
    'Stops VMs as "vm stop" does and starts them again: a new boot, the same disks. Stopped VMs are started.',
  examples: [
    { line: 'banger vm restart dev', brief: 'one VM' },
    { line: 'banger vm restart dev web db', brief: 'several at once' },
  ],
  argument: manyArguments('VM', 'Names or ids of VMs', completeVms),
  flags: { json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'restarting',
      refs,
      json: flags.json,
      act: (client, ref, { signal, onProgress }) =>
        client.call('vm.restart', { ref }, { signal, onProgress }),
      print: formatDone('restarted'),
    }),
});
