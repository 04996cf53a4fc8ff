import { defineCommand, optionalArgument } from '../../command.ts';
import { completeImages } from '../../complete-names.ts';
import { jsonFlag, toggle } from '../../flags.ts';
import { longCall } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { withClient } from '../../with-client.ts';

const DEFAULT_IMAGE = 'debian-bookworm';

export const command = defineCommand({
  description:
    'Builds the image from its distribution\'s own packages, without root, with the kernel it needs. "vm run" and "vm create" ' +
    'do this by themselves when the image is missing. Takes minutes; Ctrl-C leaves nothing behind. Two builds of one image at ' +
    'once become one. --force is refused while VMs use the image.',
  examples: [
    { line: 'banger image build', brief: 'the default image, unless it is there' },
    { line: 'banger image build debian-bookworm --force', brief: 'anew, with current packages' },
  ],
  argument: optionalArgument(
    'IMAGE',
    `Name of an image of the catalog. Default: ${DEFAULT_IMAGE}`,
    completeImages,
  ),
  flags: { force: toggle('Build it even when it is there', { letter: 'f' }), json: jsonFlag },
  async run(context, flags, [name = DEFAULT_IMAGE]) {
    const image = await withClient(context, (client) =>
      longCall(context, client, 'image.build', { name, force: flags.force }),
    );
    if (flags.json) printJson(context.stdout, image);
    else context.stdout.write(`${image.name}\n`);
  },
});
