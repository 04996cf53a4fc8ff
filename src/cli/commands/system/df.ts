import type { DiskUseRow } from '../../../api/results/daemon.ts';
import { formatSizeShort } from '../../../core/units.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatTable } from '../../output/table.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'SIZE is what the files occupy on the disk, which for sparse files is less than their length; RECLAIMABLE how much of that ' +
    'the last column would give back. Symbolic links are not followed.',
  examples: [{ line: 'banger system df --json | jq .allocatedBytes', brief: 'all of it, in bytes' }],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const use = await withClient(context, (client) => client.call('system.df', {}));
    if (flags.json) {
      printJson(context.stdout, use);
      return;
    }
    const { allocatedBytes, reclaimableBytes } = use;
    const total = ['total', '', formatSizeShort(allocatedBytes), formatSizeShort(reclaimableBytes), ''];
    context.stdout.write(
      formatTable(['KIND', 'COUNT', 'SIZE', 'RECLAIMABLE', 'BY'], [...use.rows.map(rowOf), total]),
    );
    if (use.truncated)
      context.stderr.write('there are more files than are counted: the figures are too small\n');
  },
});

function rowOf({ kind, count, allocatedBytes, reclaimableBytes, reclaim }: DiskUseRow): readonly string[] {
  const sizes = [allocatedBytes, reclaimableBytes].map(formatSizeShort);
  return [kind, String(count), ...sizes, reclaim ?? '-'];
}
