import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatDone } from '../../output/vm-table.ts';

export const command = defineCommand({
  description:
    'Stands VMs still: they take no CPU time any more, and keep their memory, their programs and the commands that run in ' +
    'them. A VM that is paused already stays so.',
  examples: [
    { line: 'banger vm pause dev', brief: 'one VM' },
    { line: 'banger vm pause dev web db', brief: 'several at once' },
  ],
  argument: manyArguments('VM', 'Names or ids of VMs', completeVms),
  flags: { json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'pausing',
      refs,
      json: flags.json,
      act: (client, ref, { signal, onProgress }) => client.call('vm.pause', { ref }, { signal, onProgress }),
      print: formatDone('paused'),
    }),
});
