import { resolve } from 'node:path';
import { BangerError } from '../../../../core/errors.ts';
import { formatSize } from '../../../../core/units.ts';
import { defineCommand, oneArgument } from '../../../command.ts';
import { completeVmSnapshots } from '../../../complete-names.ts';
import { jsonFlag, toggle } from '../../../flags.ts';
import { longCall, withProgress } from '../../../long-call.ts';
import { printJson } from '../../../output/json.ts';
import { assertPiped, type Carry, streamedCall } from '../../../streamed-call.ts';
import { withClient } from '../../../with-client.ts';

export const command = defineCommand({
  description:
    'Writes a snapshot to a new file, readable by you alone: everything that was on the disk of its VM and, where it has it, in ' +
    'its memory, passwords and keys among them. The image it stands on is not in it. FILE "-" is stdout. The same snapshot gives the same file.',
  examples: [
    { line: 'banger vm snapshot export before-upgrade upgrade.snap', brief: 'to a file' },
    {
      line: 'banger vm snapshot export dev-1 - | ssh host banger vm snapshot import - --trust',
      brief: 'to another machine',
    },
  ],
  argument: {
    ...oneArgument('SNAPSHOT', 'Name or id of a snapshot', completeVmSnapshots),
    second: { placeholder: 'FILE', brief: 'Path of the file; "-" is stdout', required: true },
  },
  flags: { force: toggle('Replace FILE', { letter: 'f' }), json: jsonFlag },
  async run(context, flags, [snapshot = '', file = '']) {
    if (file === '-') {
      if (flags.json)
        throw new BangerError('usage', 'with "-" the file is on stdout: there is no place for JSON');
      assertPiped(context, 'stdout');
      const carry: Carry = (ticket, signal) => context.ports.copyStream(ticket, signal);
      await withClient(context, (client) =>
        withProgress(context, (work) =>
          streamedCall<'snapshot.export'>(client, work, carry, (stream) =>
            client.call('snapshot.export', { snapshot, stream }, work),
          ),
        ),
      );
      return;
    }
    const output = resolve(context.cwd, file);
    const exported = await withClient(context, (client) =>
      longCall(context, client, 'snapshot.export', { snapshot, output, force: flags.force }),
    );
    if (flags.json) printJson(context.stdout, exported);
    else context.stdout.write(`${exported.snapshot.name}: ${formatSize(exported.bytes)} in ${file}\n`);
  },
});
