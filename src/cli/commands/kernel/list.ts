import { formatSizeShort } from '../../../core/units.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatTable } from '../../output/table.ts';
import { timeAgo } from '../../output/times.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description: 'RELEASE is what "uname -r" says in a VM, USED BY the number of images that boot with it.',
  examples: [{ line: 'banger kernel list', brief: 'all kernels' }],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const kernels = await withClient(context, (client) => client.call('kernel.list', {}));
    if (flags.json) {
      printJson(context.stdout, kernels);
      return;
    }
    const rows = kernels.map((kernel) => [
      kernel.name,
      kernel.distro,
      kernel.arch,
      kernel.release,
      formatSizeShort(kernel.vmlinux.sizeBytes),
      String(kernel.usedBy.length),
      timeAgo(kernel.importedAt),
    ]);
    context.stdout.write(
      formatTable(['NAME', 'DISTRO', 'ARCH', 'RELEASE', 'SIZE', 'USED BY', 'IMPORTED'], rows),
    );
  },
});
