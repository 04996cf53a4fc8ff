import type { ImageEntry } from '../../../api/contract.ts';
import { formatSizeShort } from '../../../core/units.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatTable, printable } from '../../output/table.ts';
import { timeAgo } from '../../output/times.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'SIZE is what the image takes on the host, DISK what its root file system offers, USED BY the VMs made from it. An image ' +
    'that has lost its files is listed, too, and stderr says what is wrong; in JSON that is "problem", else null.',
  examples: [{ line: 'banger image list', brief: 'all images' }],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const images = await withClient(context, (client) => client.call('image.list', {}));
    if (flags.json) {
      printJson(context.stdout, images);
      return;
    }
    const header = ['NAME', 'DISTRO', 'ARCH', 'KERNEL', 'SIZE', 'DISK', 'USED BY', 'BUILT'];
    context.stdout.write(formatTable(header, images.map(rowOf)));
    for (const { problem } of images) {
      if (problem !== null) context.stderr.write(`${printable(problem)}\n`);
    }
  },
});

function rowOf(image: ImageEntry): readonly string[] {
  const usedBy = String(image.usedBy.length);
  if (image.problem !== null) return [image.name, 'broken', '-', '-', '-', '-', usedBy, '-'];
  const { name, distro, arch, kernelName, rootfs, builtAt } = image;
  const sizes = [rootfs.sizeBytes, rootfs.virtualSizeBytes].map(formatSizeShort);
  return [name, distro, arch, kernelName, ...sizes, usedBy, timeAgo(builtAt)];
}
