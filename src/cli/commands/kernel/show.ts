import { formatSize } from '../../../core/units.ts';
import { defineCommand, oneArgument } from '../../command.ts';
import { completeKernels } from '../../complete-names.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatPairs } from '../../output/table.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description: 'Shows where a kernel came from, its files, and which images boot with it.',
  examples: [{ line: 'banger kernel show debian-bookworm-cloud --json', brief: 'for scripts' }],
  argument: oneArgument('KERNEL', 'Name of a kernel', completeKernels),
  flags: { json: jsonFlag },
  async run(context, flags, [name = '']) {
    const kernel = await withClient(context, (client) => client.call('kernel.show', { name }));
    if (flags.json) {
      printJson(context.stdout, kernel);
      return;
    }
    context.stdout.write(
      formatPairs([
        ['name', kernel.name],
        ['distro', kernel.distro],
        ['arch', kernel.arch],
        ['release', kernel.release],
        ['source', kernel.source],
        ['imported', kernel.importedAt],
        ['directory', kernel.dir],
        ['vmlinux', `${kernel.vmlinux.file} (${formatSize(kernel.vmlinux.sizeBytes)})`],
        ['sha256', kernel.vmlinux.sha256],
        ['modules, mmio', kernel.modules.mmio.join(' ') || '-'],
        ['modules, pci', kernel.modules.pci.join(' ') || '-'],
        ['modules, vsock', kernel.modules.vsock?.join(' ') || '-'],
        ['used by', kernel.usedBy.join(', ') || '-'],
      ]),
    );
  },
});
