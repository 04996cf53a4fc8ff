import { BangerError } from '../../../core/errors.ts';
import { formatDuration } from '../../../core/units.ts';
import { defineCommand, optionalArgument } from '../../command.ts';
import { completeVmSnapshots, completeVms } from '../../complete-names.ts';
import { count, jsonFlag, text, toggle } from '../../flags.ts';
import { withProgress } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { styleFor } from '../../output/style.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'Copies a VM with its programs, memory and disk, and prints the names of the copies. The VM goes on: it stands still ' +
    'for the moment that copying takes, which is shown. Each copy is a machine of its own: name, machine id, boot id, ' +
    'addresses, randomness and clock; what runs in the foreground of a session ("vm exec") ends in the copies, and what runs ' +
    'in the background goes on.\n' +
    'With --snapshot the copies are made of a snapshot; one of the disk only is booted. All copies are made, or none.',
  examples: [
    { line: 'banger vm fork dev', brief: 'one copy, dev-1' },
    { line: 'banger vm fork dev --count 10 --name try', brief: 'try-1 to try-10' },
    { line: 'banger vm fork --snapshot before-upgrade --name again', brief: 'of a snapshot' },
  ],
  argument: optionalArgument('VM', 'Name or id of a VM that runs or is paused', completeVms),
  flags: {
    count: count('N', 'How many copies. Default: 1', 1),
    name: text(
      'NAME',
      "Name of the copy; of several, what comes before their number. Default: the VM's name",
    ),
    snapshot: text('SNAPSHOT', 'Name or id of a snapshot to make the copies of', {
      complete: completeVmSnapshots,
    }),
    'disk-only': toggle('With --snapshot: leave its memory alone and boot the copies'),
    json: jsonFlag,
  },
  async run(context, flags, [ref]) {
    if ((ref === undefined) === (flags.snapshot === undefined)) {
      throw new BangerError('usage', 'a fork is made of a VM or of a snapshot: give one of them', {
        hint: 'banger vm fork NAME, or banger vm fork --snapshot SNAPSHOT',
      });
    }
    const params = {
      ...(ref !== undefined && { ref }),
      ...(flags.snapshot !== undefined && { snapshot: flags.snapshot }),
      ...(flags.count !== undefined && { count: flags.count }),
      ...(flags.name !== undefined && { name: flags.name }),
      ...(flags['disk-only'] && { diskOnly: true }),
    };
    const forked = await withClient(context, (client) =>
      withProgress(context, (work) => client.call('vm.fork', params, work)),
    );
    if (flags.json) {
      printJson(context.stdout, forked);
      return;
    }
    for (const { name } of forked.vms) context.stdout.write(`${name}\n`);
    const pause = ref === undefined ? '' : `; ${ref} stood still for ${formatDuration(forked.pauseMs)}`;
    const style = styleFor(context.stderr, context.env);
    context.stderr.write(`${style.dim(`ready in ${formatDuration(forked.elapsedMs)}${pause}`)}\n`);
  },
});
