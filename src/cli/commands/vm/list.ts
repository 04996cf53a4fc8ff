import { defineCommand } from '../../command.ts';
import { jsonFlag, toggle } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatVmTable } from '../../output/vm-table.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'Lists all VMs, in the order they were created. IP is the address a VM has in its own network: nothing on this host ' +
    'can connect to it. HOST ADDRESS is the one on this host where the ports of its programs appear. PORTS are those of this host that lead into the VM, HOST->VM; with a ! where one could not be ' +
    'opened ("vm show" says why). WORKSPACE is the git repo that was copied into it.',
  examples: [
    { line: 'banger vm list', brief: 'all VMs' },
    { line: 'banger vm list --running -q', brief: 'ids of those that run' },
    { line: "banger vm list --json | jq -r '.[].name'", brief: 'for scripts' },
  ],
  flags: {
    quiet: toggle('Print ids only', { letter: 'q' }),
    running: toggle('Only VMs that are running'),
    json: jsonFlag,
  },
  async run(context, flags) {
    const all = await withClient(context, (client) => client.call('vm.list', {}));
    const vms = flags.running ? all.filter((vm) => vm.state === 'running') : all;
    if (flags.json) printJson(context.stdout, flags.quiet ? vms.map((vm) => vm.id) : vms);
    else if (flags.quiet) context.stdout.write(vms.map((vm) => `${vm.id.slice(0, 12)}\n`).join(''));
    else context.stdout.write(formatVmTable(vms));
  },
});
