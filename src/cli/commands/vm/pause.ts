import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag, toggle } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatDone } from '../../output/vm-table.ts';

export const command = defineCommand({
  description:
    'Stands VMs still: they take no CPU time any more, and keep their memory, their programs and the commands that run in ' +
    'them. A VM that is paused already stays so. With --save their memory is written to disk and they have no process any ' +
    'more: they cost no memory either, and survive a restart of this host. "vm resume" lets them go on.',
  examples: [
    { line: 'banger vm pause dev', brief: 'one VM' },
    { line: 'banger vm pause dev web db', brief: 'several at once' },
    { line: 'banger vm pause dev --save', brief: 'to disk, until it is resumed' },
  ],
  argument: manyArguments('VM', 'Names or ids of VMs', completeVms),
  flags: { save: toggle('Write their memory to disk too, and end their processes'), json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'pausing',
      refs,
      json: flags.json,
      act: (client, ref, { signal, onProgress }) =>
        client.call('vm.pause', { ref, ...(flags.save && { save: true }) }, { signal, onProgress }),
      print: formatDone(flags.save ? 'saved' : 'paused'),
    }),
});
