import type { PortEntry } from '../../../api/results/vm.ts';
import { defineCommand, manyArguments } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { actOnMany } from '../../many.ts';
import { formatTable } from '../../output/table.ts';

const HEADER = [
  'ENDPOINT',
  'PROTOCOL',
  'ADDRESS',
  'PORT',
  'PID',
  'PROCESS',
  'PUBLISHED',
  'FORWARDED',
  'URL',
] as const;

export const command = defineCommand({
  description:
    'Asks the agents of running VMs which TCP and UDP ports are listened on, and by what. PUBLISHED is where this host offers ' +
    'them (--publish of "vm create" and "vm run"); a published port that nothing listens on is listed, too, without an address. ' +
    "FORWARDED is where a TCP port appears by itself, on the VM's own address of this host, or why it does not. URL is a guess " +
    'by the number, for a host that knows names of VMs (docs/names.md).',
  examples: [
    { line: 'banger vm ports dev', brief: 'one VM' },
    { line: 'banger vm ports dev web --json', brief: 'two, for scripts' },
  ],
  argument: manyArguments('VM', 'Names or ids of running VMs', completeVms),
  flags: { json: jsonFlag },
  run: (context, flags, refs) =>
    actOnMany(context, {
      verb: 'asking',
      refs,
      json: flags.json,
      act: (client, ref, { signal }) => client.call('vm.ports', { ref }, { signal }),
      print: (results, named) => {
        for (const [index, { length }] of results.entries()) {
          if (length === 0) context.stderr.write(`nothing listens in VM "${named[index]}"\n`);
        }
        const rows = results.flat().map(row);
        return rows.length === 0 ? '' : formatTable(HEADER, rows);
      },
    }),
});

function row(port: PortEntry): string[] {
  return [
    port.endpoint,
    port.protocol,
    port.address ?? '-',
    String(port.port),
    port.pid === null ? '-' : String(port.pid),
    port.process ?? '-',
    port.published.length === 0 ? '-' : port.published.join(','),
    port.forwarded ?? (port.problem === null ? '-' : `- (${port.problem})`),
    port.url ?? '-',
  ];
}
