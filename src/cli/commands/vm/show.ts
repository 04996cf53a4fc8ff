import type { VmDetail } from '../../../api/results/vm.ts';
import type { BoundPort, ForwardedPort } from '../../../core/model/vm.ts';
import { formatHostEnd, publishedPorts } from '../../../core/published-port.ts';
import { formatSize } from '../../../core/units.ts';
import { defineCommand, oneArgument } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatPairs } from '../../output/table.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'Shows size, state, addresses, files and the whole command line of the VM process (or of its next start).',
  examples: [
    { line: 'banger vm show dev', brief: 'for people' },
    { line: 'banger vm show dev --json | jq .argv', brief: 'for scripts' },
  ],
  argument: oneArgument('VM', 'Name or id of a VM', completeVms),
  flags: { json: jsonFlag },
  async run(context, flags, [ref = '']) {
    const vm = await withClient(context, (client) => client.call('vm.show', { ref }));
    if (flags.json) printJson(context.stdout, vm);
    else context.stdout.write(formatPairs(pairsOf(vm)));
  },
});

function pairsOf(vm: VmDetail): (readonly [string, string])[] {
  const pairs: (readonly [string, string | number | null | undefined])[] = [
    ['id', vm.id],
    ['name', vm.name],
    ['state', vm.state],
    ['last error', vm.runtime.lastError],
    ['image', vm.spec.imageName],
    ['vcpus', vm.spec.vcpus],
    ['memory', `${vm.spec.memoryMib} MiB`],
    ['disk', formatSize(vm.spec.diskSizeBytes)],
    ['network', vm.spec.nat ? 'nat' : 'none outbound'],
    ['address', vm.guestIp],
    ['host address', vm.hostAddress === null ? undefined : `${vm.hostAddress} (${vm.name}.vm)`],
    ...publishedPorts(vm).map((port) => ['published', describePort(port)] as const),
    ...(vm.runtime.forwarded ?? []).map((port) => ['forwarded', describeForward(vm, port)] as const),
    ['init', vm.spec.init],
    ['driver', vm.spec.driver],
    ['accelerator', vm.runtime.accelerator ?? vm.spec.accel],
    ['machine', vm.runtime.machine],
    ['kept', vm.spec.ephemeral ? 'no: deleted when the client that made it ends' : undefined],
    ['workspace', vm.workspace?.sourcePath ?? undefined],
    ['workspace in guest', vm.workspace?.guestPath],
    ['workspace commit', vm.workspace?.headCommit],
    ['workspace mode', vm.workspace?.mode],
    ['created', vm.createdAt],
    ['started', vm.runtime.startedAt],
    ['started from', vm.runtime.startedFrom],
    ['stopped', vm.runtime.stoppedAt],
    ['boot id', vm.runtime.bootId],
    ['pid', vm.pid],
    ['directory', vm.vmDir],
    ['console log', vm.consoleLogPath],
    ['vmm log', vm.vmmLogPath],
    ['command line', vm.argv.map(quoteWord).join(' ')],
  ];
  return pairs.flatMap(([key, value]) =>
    value === undefined || value === null || value === '' ? [] : [[key, String(value)] as const],
  );
}

function describePort(port: BoundPort): string {
  const problem = port.problem === undefined ? '' : ` (not open: ${port.problem})`;
  return `${formatHostEnd(port)} -> ${port.guestPort}${problem}`;
}

function describeForward({ hostAddress }: VmDetail, { port, problem }: ForwardedPort): string {
  return `${hostAddress}:${port} -> ${port}${problem === undefined ? '' : ` (not open: ${problem})`}`;
}

/** As a POSIX shell reads it back. */
function quoteWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
