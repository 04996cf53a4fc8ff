import { formatSizeShort } from '../../../core/units.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatTable } from '../../output/table.ts';
import { timeAgo } from '../../output/times.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'SIZE is what the image takes on the host, DISK what its root file system offers, USED BY the VMs made from it.',
  examples: [{ line: 'banger image list', brief: 'all images' }],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const images = await withClient(context, (client) => client.call('image.list', {}));
    if (flags.json) {
      printJson(context.stdout, images);
      return;
    }
    const rows = images.map((image) => [
      image.name,
      image.distro,
      image.arch,
      image.kernelName,
      formatSizeShort(image.rootfs.sizeBytes),
      formatSizeShort(image.rootfs.virtualSizeBytes),
      String(image.usedBy.length),
      timeAgo(image.builtAt),
    ]);
    const header = ['NAME', 'DISTRO', 'ARCH', 'KERNEL', 'SIZE', 'DISK', 'USED BY', 'BUILT'];
    context.stdout.write(formatTable(header, rows));
  },
});
