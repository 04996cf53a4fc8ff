import type { KernelEntry } from '../../../api/results/image.ts';
import { formatSizeShort } from '../../../core/units.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatTable, printable } from '../../output/table.ts';
import { timeAgo } from '../../output/times.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'RELEASE is what "uname -r" says in a VM, USED BY the number of images that boot with it. A broken kernel is listed, too, ' +
    'and stderr says what is wrong; in JSON that is "problem", else null.',
  examples: [{ line: 'banger kernel list', brief: 'all kernels' }],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const kernels = await withClient(context, (client) => client.call('kernel.list', {}));
    if (flags.json) {
      printJson(context.stdout, kernels);
      return;
    }
    const header = ['NAME', 'DISTRO', 'ARCH', 'RELEASE', 'SIZE', 'USED BY', 'IMPORTED'];
    context.stdout.write(formatTable(header, kernels.map(rowOf)));
    for (const { problem } of kernels) {
      if (problem !== null) context.stderr.write(`${printable(problem)}\n`);
    }
  },
});

function rowOf(kernel: KernelEntry): readonly string[] {
  const usedBy = String(kernel.usedBy.length);
  if (kernel.problem !== null) return [kernel.name, 'broken', '-', '-', '-', usedBy, '-'];
  const { name, distro, arch, release, vmlinux, importedAt } = kernel;
  return [name, distro, arch, release, formatSizeShort(vmlinux.sizeBytes), usedBy, timeAgo(importedAt)];
}
