import { defineCommand, manyArguments } from '../../../command.ts';
import { completeVmSnapshots } from '../../../complete-names.ts';
import { jsonFlag } from '../../../flags.ts';
import { actOnMany } from '../../../many.ts';

export const command = defineCommand({
  description: 'Deletes snapshots for good. VMs that were made of them, or put back to them, go on.',
  examples: [{ line: 'banger vm snapshot delete dev-1 dev-2', brief: 'two of them' }],
  argument: manyArguments('SNAPSHOT', 'Names or ids of snapshots', completeVmSnapshots),
  flags: { json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'deleting',
      refs,
      json: flags.json,
      find: (client, snapshot, signal) => client.call('snapshot.show', { snapshot }, { signal }),
      things: 'snapshots',
      act: (client, snapshot, { signal }) => client.call('snapshot.delete', { snapshot }, { signal }),
      print: (deleted) => deleted.map(({ name }) => `${name}: deleted\n`).join(''),
    }),
});
