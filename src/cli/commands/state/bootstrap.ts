import { defineCommand } from '../../command.ts';
import { jsonFlag, text, texts, toggle } from '../../flags.ts';
import { longCall } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { formatRestored } from '../../output/restored.ts';
import { oneSnapshot, snapshotSource } from '../../snapshot-argument.ts';
import { withOfflineClient } from '../../with-state-client.ts';

export const command = defineCommand({
  description:
    'Builds a new database from the snapshot, checks it, and only then renames it into place: killed at any moment, there is ' +
    'either the old state or the new one. Where there is a state already it is refused without --force, which keeps a copy of ' +
    'the old one and says where. A snapshot that is older than what it replaces needs --allow-rollback, too: the refusal ' +
    'prints the value. The daemon must not run: stop it with "banger daemon stop", which leaves VMs running.\n' +
    'Disks and images are not in a snapshot: what its rows name and this host lacks is listed at the end.',
  examples: [
    { line: 'banger state bootstrap /mnt/backup/banger.sql', brief: 'on a new machine' },
    { line: 'banger state bootstrap latest --force', brief: 'in the place of the state there is' },
    {
      line: 'banger state bootstrap ./banger.sql --digest "$DIGEST"',
      brief: 'only if it is that one',
    },
  ],
  argument: oneSnapshot(),
  flags: {
    force: toggle('Replace the state there is; a copy of it is kept', { letter: 'f' }),
    'allow-rollback': texts(
      'FROM:TO',
      'Go back from one version to an earlier one, as the refusal names them',
    ),
    digest: text('DIGEST', 'Refuse a snapshot with another digest'),
    json: jsonFlag,
  },
  async run(context, flags, [snapshot = '']) {
    const restored = await withOfflineClient(context, (client) =>
      longCall(context, client, 'state.bootstrap', {
        source: snapshotSource(context, snapshot),
        force: flags.force,
        allowRollback: [...flags['allow-rollback']],
        ...(flags.digest !== undefined && { digest: flags.digest }),
      }),
    );
    if (flags.json) printJson(context.stdout, restored);
    else context.stdout.write(formatRestored(restored));
  },
});
