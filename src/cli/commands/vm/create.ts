import { BangerError } from '../../../core/errors.ts';
import { formatDuration } from '../../../core/units.ts';
import { bootstrap, noBootstrapFlag } from '../../bootstrap.ts';
import { defineCommand, optionalPath } from '../../command.ts';
import {
  creationFlags,
  creationParams,
  placementFlags,
  workspaceFlags,
  workspaceParams,
} from '../../creation-flags.ts';
import { jsonFlag, toggle } from '../../flags.ts';
import { withProgress } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { formatPublished, formatSpec } from '../../output/vm-table.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'Prints the name of the new VM. With PATH: that git repo is copied to /root/repo in it, as "vm run PATH" does. ' +
    'With --no-start it is only reserved: "vm start" boots it. Ctrl-C undoes everything.',
  examples: [
    { line: 'banger vm create --name dev', brief: 'a VM with default size' },
    {
      line: 'banger vm create --name big --vcpu 4 --memory 4G --disk-size 40G --nat',
      brief: 'a bigger one, with the network',
    },
    { line: 'banger vm create --no-start --json', brief: 'not booted yet; its record as JSON' },
  ],
  argument: optionalPath('A directory of the git repo to copy into the VM'),
  flags: {
    ...creationFlags,
    ...workspaceFlags,
    ...placementFlags,
    'no-bootstrap': noBootstrapFlag,
    'no-start': toggle('Do not boot it yet'),
    json: jsonFlag,
  },
  async run(context, flags, args) {
    const workspace = workspaceParams(context.cwd, args[0], flags);
    if (workspace !== undefined && flags['no-start']) {
      throw new BangerError('usage', '--no-start takes no path: a repo is copied into a running VM');
    }
    const params = {
      ...creationParams(flags),
      ...(flags['no-start'] && { start: false }),
      ...(workspace !== undefined && { workspace, bootstrap: !flags['no-bootstrap'] }),
    };
    const created = await withClient(context, async (client) => {
      const made = await withProgress(context, ({ signal, onProgress }) =>
        client.call('vm.create', params, { signal, onProgress }),
      );
      await bootstrap(context, client, flags, made);
      return made;
    });
    if (flags.json) {
      printJson(context.stdout, created);
      return;
    }
    context.stdout.write(`${created.vm.name}\n`);
    if (context.stderr.isTTY) {
      const time = flags['no-start'] ? 'created' : `ready in ${formatDuration(created.elapsedMs)}`;
      context.stderr.write(`spec: ${formatSpec(created.vm.spec)}\n${formatPublished(created.vm)}${time}\n`);
    }
  },
});
