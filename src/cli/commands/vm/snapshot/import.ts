import { resolve } from 'node:path';
import type { VmSnapshotView } from '../../../../api/results/snapshot.ts';
import { defineCommand } from '../../../command.ts';
import type { CliContext } from '../../../cli-context.ts';
import { jsonFlag, text, toggle } from '../../../flags.ts';
import { longCall, withProgress } from '../../../long-call.ts';
import { printJson } from '../../../output/json.ts';
import { assertPiped, type Carry, streamedCall } from '../../../streamed-call.ts';
import { withClient } from '../../../with-client.ts';

interface Wanted {
  readonly name?: string;
  readonly trust: boolean;
  readonly nat: boolean;
}

export const command = defineCommand({
  description:
    'Reads a file of "vm snapshot export", checks it, and prints the name of the snapshot. VMs can be made of it (vm fork --snapshot); ' +
    'no VM is put back to it. The image it stands on must be here, the same to the byte. FILE "-" is stdin. A file with memory is for ' +
    'those who trust whoever made it: QEMU loads the state of its devices, and runs as your user.',
  examples: [
    { line: 'banger vm snapshot import upgrade.snap --trust', brief: 'a file of your own' },
    {
      line: 'banger vm snapshot import upgrade.snap --name theirs',
      brief: 'one of a disk only, under another name',
    },
    { line: 'banger vm fork --snapshot theirs', brief: 'and a VM of it' },
  ],
  argument: {
    placeholder: 'FILE',
    brief: 'Path of the file; "-" is stdin',
    minimum: 1,
    maximum: 1,
    isPath: true,
  },
  flags: {
    name: text('NAME', 'Name of the snapshot here. Default: the one it had'),
    trust: toggle('Also with memory: you trust whoever made the file'),
    nat: toggle('Let VMs made of it open connections to the network'),
    json: jsonFlag,
  },
  async run(context, flags, [file = '']) {
    const { trust, nat } = flags;
    const wanted = { ...(flags.name !== undefined && { name: flags.name }), trust, nat };
    const snapshot = file === '-' ? await fromStdin(context, wanted) : await fromFile(context, file, wanted);
    if (flags.json) printJson(context.stdout, snapshot);
    else context.stdout.write(`${snapshot.name}\n`);
  },
});

async function fromFile(context: CliContext, file: string, wanted: Wanted): Promise<VmSnapshotView> {
  const input = resolve(context.cwd, file);
  return await withClient(context, (client) =>
    longCall(context, client, 'snapshot.import', { ...wanted, input }),
  );
}

async function fromStdin(context: CliContext, wanted: Wanted): Promise<VmSnapshotView> {
  assertPiped(context, 'stdin');
  const carry: Carry = (ticket, signal) => context.ports.feedStream(ticket, signal);
  return await withClient(context, (client) =>
    withProgress(context, (work) =>
      streamedCall<'snapshot.import'>(client, work, carry, (stream) =>
        client.call('snapshot.import', { ...wanted, stream }, work),
      ),
    ),
  );
}
