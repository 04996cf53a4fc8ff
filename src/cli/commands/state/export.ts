import { resolve } from 'node:path';
import { BangerError } from '../../../core/errors.ts';
import { SNAPSHOT_ENCODINGS } from '../../../core/model/snapshot.ts';
import { defineCommand } from '../../command.ts';
import { choice, jsonFlag, text } from '../../flags.ts';
import { longCall } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { formatSnapshot } from '../../output/snapshots.ts';
import { withStateClient } from '../../with-state-client.ts';

export const command = defineCommand({
  description:
    'Reads one moment of the state, also while VMs run, changes nothing in it, and keeps the snapshot in the local collection; ' +
    'the ref "latest" points to it until the next one is taken. The same state has the same digest, whatever its history: exporting it twice ' +
    'keeps it once. Disks, images and what changes by itself (statistics, running processes) are not in it.',
  examples: [
    { line: 'banger state export', brief: 'into the collection' },
    { line: 'banger state export --ref before-upgrade', brief: 'with a name to find it by' },
    {
      line: 'banger state export --output /mnt/backup/banger.sql',
      brief: 'also there, with banger.sql.manifest.json beside it',
    },
    { line: 'banger state export --json | jq -r .digest', brief: 'for scripts' },
  ],
  flags: {
    output: text('PATH', 'Also write it to PATH, a new file, and its manifest to PATH.manifest.json', {
      letter: 'o',
    }),
    encoding: choice(SNAPSHOT_ENCODINGS, 'How it is stored; the digest is the same. Default: identity'),
    ref: text('NAME', 'Also call it NAME'),
    json: jsonFlag,
  },
  async run(context, flags) {
    if (flags.output === '')
      throw new BangerError('usage', '--output is empty: it is the path of a new file');
    const output = flags.output === undefined ? undefined : resolve(context.cwd, flags.output);
    const exported = await withStateClient(context, (client) =>
      longCall(context, client, 'state.export', {
        ...(output !== undefined && { output }),
        ...(flags.encoding !== undefined && { encoding: flags.encoding }),
        ...(flags.ref !== undefined && { ref: flags.ref }),
      }),
    );
    if (flags.json) {
      printJson(context.stdout, exported);
      return;
    }
    context.stdout.write(formatSnapshot(exported, output === undefined ? [] : [['copy', output]]));
    if (exported.existed) context.stderr.write('nothing has changed since this snapshot was first taken\n');
  },
});
