import type { VmView } from '../../../api/results/vm.ts';
import { formatDuration, formatSize } from '../../../core/units.ts';
import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatTable } from '../../output/table.ts';
import { timeAgo } from '../../output/times.ts';

export const command = defineCommand({
  description:
    'CPU time and resident memory of the VM process, and the bytes its files occupy, all on the host.',
  examples: [
    { line: 'banger vm stats dev', brief: 'one VM' },
    { line: 'banger vm stats dev --json', brief: 'for scripts' },
  ],
  argument: manyArguments('VM', 'Names or ids of VMs', completeVms),
  flags: { json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'asking',
      refs,
      json: flags.json,
      act: (client, ref, { signal }) => client.call('vm.stats', { ref }, { signal }),
      print: (vms) => formatTable(['NAME', 'STATE', 'CPU TIME', 'RSS', 'DISK', 'SAMPLED'], vms.map(row)),
    }),
});

function row({ name, state, stats }: VmView): string[] {
  const show = (value: number | undefined, format: (value: number) => string) =>
    value === undefined ? '-' : format(value);
  return [
    name,
    state,
    show(stats.cpuMs, formatDuration),
    show(stats.rssBytes, formatSize),
    show(stats.diskBytes, formatSize),
    stats.sampledAt === undefined ? '-' : timeAgo(stats.sampledAt),
  ];
}
