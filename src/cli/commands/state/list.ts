import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatSnapshotTable } from '../../output/snapshots.ts';
import { withStateClient } from '../../with-state-client.ts';

export const command = defineCommand({
  description:
    'The newest first. REFS are names that point to a snapshot, SCHEMA is the version of its tables, CHANGES counts the ' +
    'changes its database had seen: larger is later. Reads the manifests only; "state verify" reads everything.',
  examples: [
    { line: 'banger state list', brief: 'the local collection' },
    { line: "banger state list --json | jq -r '.[].path'", brief: 'where their files are' },
  ],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const snapshots = await withStateClient(context, (client) => client.call('state.list', {}));
    if (flags.json) printJson(context.stdout, snapshots);
    else context.stdout.write(formatSnapshotTable(snapshots));
  },
});
