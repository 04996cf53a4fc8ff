import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag, text } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatDone } from '../../output/vm-table.ts';

export const command = defineCommand({
  description:
    'Ends the VM process and waits until the VM is stopped. What the guest had not written to disk is lost: ' +
    '"vm stop" is the gentle way.',
  examples: [
    { line: 'banger vm kill dev', brief: 'end it now' },
    { line: 'banger vm kill dev web', brief: 'two of them' },
  ],
  argument: manyArguments('VM', 'Names or ids of VMs', completeVms),
  flags: {
    signal: text('NAME', 'Signal to send. KILL, the default, is the only one', { letter: 's' }),
    json: jsonFlag,
  },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'killing',
      refs,
      json: flags.json,
      act: (client, ref, { signal }) =>
        client.call(
          'vm.kill',
          {
            ref,
            ...(flags.signal !== undefined && { signal: flags.signal.toUpperCase().replace(/^SIG/, '') }),
          },
          { signal },
        ),
      print: formatDone('killed'),
    }),
});
