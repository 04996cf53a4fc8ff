import type { StateDiff, StateDiffRow } from '../../../api/results/state.ts';
import type { CliContext } from '../../cli-context.ts';
import { defineCommand } from '../../command.ts';
import { completeSnapshots } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { longCall } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { printable } from '../../output/table.ts';
import { snapshotSource } from '../../snapshot-argument.ts';
import { withOfflineClient } from '../../with-state-client.ts';

const TROUBLE_STATUS = 2;
const SIGNS = { added: '+', removed: '-', changed: '~' } as const;

export const command = defineCommand({
  description:
    'Compares the rows of two snapshots, or of a snapshot and the database: + added, - removed, ~ changed, with the columns ' +
    'that differ and, in JSON columns, the values. Exit status as diff(1) has it: 0 no difference, 1 some, 2 trouble.',
  examples: [
    { line: 'banger state diff latest', brief: 'what has changed since the last snapshot' },
    { line: 'banger state diff before-upgrade latest', brief: 'between two snapshots' },
  ],
  argument: {
    placeholder: 'FROM',
    brief: 'Digest, ref or path of a snapshot',
    minimum: 1,
    maximum: 1,
    complete: completeSnapshots,
    isPath: true,
    second: {
      placeholder: 'TO',
      brief: 'The same. Default: the database as it is now',
      complete: completeSnapshots,
    },
  },
  flags: { json: jsonFlag },
  ownFailureStatus: () => TROUBLE_STATUS,
  async run(context, flags, [from = '', to]) {
    const diff = await withOfflineClient(context, (client) =>
      longCall(context, client, 'state.diff', {
        from: snapshotSource(context, from),
        ...(to !== undefined && { to: snapshotSource(context, to) }),
      }),
    );
    if (flags.json) printJson(context.stdout, diff);
    else print(context, diff);
    return diff.rows.length === 0 ? 0 : 1;
  },
});

function print(context: CliContext, { rows, truncated }: StateDiff): void {
  context.stdout.write(rows.map(rowLines).join(''));
  if (truncated) context.stderr.write(`only the first ${rows.length} differences are shown\n`);
}

function rowLines({ table, row, change, columns }: StateDiffRow): string {
  const values = columns.map(({ column, from, to }) => `    ${column}: ${from} -> ${to}`);
  return [`${SIGNS[change]} ${table} ${row}`, ...values].map((line) => `${printable(line)}\n`).join('');
}
