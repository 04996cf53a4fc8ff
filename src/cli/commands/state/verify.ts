import type { StateVerified } from '../../../api/results/state.ts';
import type { CliContext } from '../../cli-context.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { longCall } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { formatCounts } from '../../output/snapshots.ts';
import { formatPairs, printable } from '../../output/table.ts';
import { optionalSnapshot, snapshotSource } from '../../snapshot-argument.ts';
import { withOfflineClient, withStateClient } from '../../with-state-client.ts';

export const command = defineCommand({
  description:
    'Of a snapshot: checks every byte against its digest and its manifest, whether it is for this version, and restores it ' +
    'into a temporary database that is thrown away. Without SNAPSHOT: checks the database itself, and prints the digest that ' +
    'an export of it would have. Changes nothing. Exits 1, and says why, when something is wrong.',
  examples: [
    { line: 'banger state verify', brief: 'the database' },
    { line: 'banger state verify latest', brief: 'the last snapshot' },
    { line: 'banger state verify /mnt/backup/banger.sql', brief: 'an exported file' },
  ],
  argument: optionalSnapshot('Digest, ref or path of a snapshot. Default: the database itself'),
  flags: { json: jsonFlag },
  async run(context, flags, [snapshot]) {
    const verified = await (snapshot === undefined
      ? withStateClient(context, (client) => longCall(context, client, 'state.verify', {}))
      : withOfflineClient(context, (client) =>
          longCall(context, client, 'state.verify', { source: snapshotSource(context, snapshot) }),
        ));
    if (flags.json) printJson(context.stdout, verified);
    else print(context, verified);
  },
});

function print(context: CliContext, verified: StateVerified): void {
  for (const check of verified.checks) context.stdout.write(`ok  ${printable(check)}\n`);
  context.stdout.write(
    formatPairs([
      ['subject', verified.subject],
      ['digest', verified.digest],
      ['holds', formatCounts(verified.tableCounts)],
      ['schema', String(verified.migrationVersion)],
      ['changes', verified.controlVersion],
    ]),
  );
}
