import { formatSize } from '../../../core/units.ts';
import { defineCommand, oneArgument } from '../../command.ts';
import { completeImages } from '../../complete-names.ts';
import { jsonFlag, toggle } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatPairs } from '../../output/table.ts';
import { formatTemplate } from '../../output/templates.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'Shows where an image came from, its files, its templates, and which VMs use it. JSON has its packages too.',
  examples: [
    { line: 'banger image show debian-bookworm', brief: 'for people' },
    { line: 'banger image show debian-bookworm --packages', brief: 'what is installed in it' },
  ],
  argument: oneArgument('IMAGE', 'Name of an image', completeImages),
  flags: { packages: toggle('Print the packages instead, one per line'), json: jsonFlag },
  async run(context, flags, [name = '']) {
    const image = await withClient(context, (client) => client.call('image.show', { name }));
    if (flags.json) {
      printJson(context.stdout, image);
      return;
    }
    if (flags.packages) {
      context.stdout.write(image.packages.map((line) => `${line}\n`).join(''));
      return;
    }
    context.stdout.write(
      formatPairs([
        ['id', image.id],
        ['name', image.name],
        ['distro', image.distro],
        ['arch', image.arch],
        ['kernel', image.kernelName],
        ['source', image.source],
        ['built', image.builtAt],
        ['directory', image.artifactDir],
        ['root file system', `${image.rootfs.file} (${image.rootfs.format})`],
        ['size', formatSize(image.rootfs.sizeBytes)],
        ['disk', formatSize(image.rootfs.virtualSizeBytes)],
        ['sha256', image.rootfs.sha256],
        ['packages', String(image.packages.length)],
        ...image.templates.map((template) => ['template', formatTemplate(template)] as const),
        ['used by', image.usedBy.join(', ') || '-'],
      ]),
    );
  },
});
