import type { ImageEntry, ImageView } from '../../../api/results/image.ts';
import { formatSizeShort } from '../../../core/units.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatTable, printable } from '../../output/table.ts';
import { timeAgo } from '../../output/times.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'SIZE is what the image takes on the host, DISK what its root file system offers, TEMPLATES how many frozen copies of the ' +
    'booted guest there are for new VMs to start from, and what they take, USED BY the VMs made from it. An image ' +
    'that has lost its files is listed, too, and stderr says what is wrong; in JSON that is "problem", else null.',
  examples: [{ line: 'banger image list', brief: 'all images' }],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const images = await withClient(context, (client) => client.call('image.list', {}));
    if (flags.json) {
      printJson(context.stdout, images);
      return;
    }
    const header = ['NAME', 'DISTRO', 'ARCH', 'KERNEL', 'SIZE', 'DISK', 'TEMPLATES', 'USED BY', 'BUILT'];
    context.stdout.write(formatTable(header, images.map(rowOf)));
    for (const { problem } of images) {
      if (problem !== null) context.stderr.write(`${printable(problem)}\n`);
    }
  },
});

function rowOf(image: ImageEntry): readonly string[] {
  const usedBy = String(image.usedBy.length);
  if (image.problem !== null) return [image.name, 'broken', '-', '-', '-', '-', '-', usedBy, '-'];
  const { name, distro, arch, kernelName, rootfs, builtAt } = image;
  const sizes = [rootfs.sizeBytes, rootfs.virtualSizeBytes].map(formatSizeShort);
  return [name, distro, arch, kernelName, ...sizes, templatesOf(image), usedBy, timeAgo(builtAt)];
}

/** `2 (410M)` */
function templatesOf({ templates }: ImageView): string {
  if (templates.length === 0) return '-';
  const bytes = templates.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0);
  return `${templates.length} (${formatSizeShort(bytes)})`;
}
