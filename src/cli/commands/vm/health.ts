import type { VmHealth } from '../../../api/results/vm.ts';
import { formatDuration, formatSize } from '../../../core/units.ts';
import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatTable } from '../../output/table.ts';

const HEADER = [
  'VM',
  'BOOT ID',
  'ROUND TRIP',
  'UPTIME',
  'MEMORY FREE',
  'DISK FREE',
  'LOAD',
  'PROCESSES',
  'INIT',
];

export const command = defineCommand({
  description: 'Exits 0 when the agents of all VMs given answer, 1 when one does not.',
  examples: [
    { line: 'banger vm health dev', brief: 'is it alive, and how is it' },
    { line: 'banger vm ping dev', brief: 'the same' },
  ],
  argument: manyArguments('VM', 'Names or ids of running VMs', completeVms),
  flags: { json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'asking',
      refs,
      json: flags.json,
      act: (client, ref, { signal }) => client.call('vm.health', { ref }, { signal }),
      print: (results, names) =>
        formatTable(
          HEADER,
          results.map((health, index) => [names[index] ?? '', ...row(health)]),
        ),
    }),
});

function row(health: VmHealth): string[] {
  return [
    health.bootId,
    `${health.roundTripMs.toFixed(1)} ms`,
    formatDuration(health.uptimeMs),
    `${formatSize(health.memoryAvailableKib * 1024)} of ${formatSize(health.memoryTotalKib * 1024)}`,
    `${formatSize(health.diskFreeBytes)} of ${formatSize(health.diskTotalBytes)}`,
    health.load1.toFixed(2),
    String(health.processes),
    health.init,
  ];
}
