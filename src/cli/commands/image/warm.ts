import { formatDuration } from '../../../core/units.ts';
import { defineCommand, optionalArgument } from '../../command.ts';
import { completeImages } from '../../complete-names.ts';
import { accelFlag, sizingFlags, sizingParams } from '../../creation-flags.ts';
import { jsonFlag } from '../../flags.ts';
import { longCall } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { formatTemplate } from '../../output/templates.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'Boots a guest that nobody uses, freezes it, and keeps it: new VMs of the same image, vCPUs, memory and accelerator start ' +
    'from it in a fraction of the time. "vm run" and "vm create" do this by themselves after their first boot. The image is ' +
    'built first where it is missing. When the template is there already, nothing is done.',
  examples: [
    { line: 'banger image warm', brief: 'for VMs of the default image and size' },
    { line: 'banger image warm debian-bookworm --vcpu 4 --memory 8G', brief: 'for larger ones' },
  ],
  argument: optionalArgument(
    'IMAGE',
    'Name of an image. Default: the one of "vm run" without --image',
    completeImages,
  ),
  flags: { vcpu: sizingFlags.vcpu, memory: sizingFlags.memory, accel: accelFlag, json: jsonFlag },
  async run(context, flags, [name]) {
    const params = {
      ...(name !== undefined && { name }),
      ...sizingParams({ ...flags, 'disk-size': undefined }),
      ...(flags.accel !== undefined && { accel: flags.accel }),
    };
    const warmed = await withClient(context, (client) => longCall(context, client, 'image.warm', params));
    if (flags.json) {
      printJson(context.stdout, warmed);
      return;
    }
    const { image, existed, template, elapsedMs } = warmed;
    const how = existed ? 'there already' : `made in ${formatDuration(elapsedMs)}`;
    context.stdout.write(`${image}: ${how}\n${formatTemplate(template)}\n`);
  },
});
