import type { VmView } from '../../../api/results/vm.ts';
import { BangerError } from '../../../core/errors.ts';
import type { CliClient, CliContext } from '../../cli-context.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag, toggle } from '../../flags.ts';
import { withProgress } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { formatDone, formatVmTable } from '../../output/vm-table.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'Deletes the VMs that are created, stopped or in error, with their disks, after showing them and asking. ' +
    'Where nobody can be asked, --force is needed. There is no way back.',
  examples: [
    { line: 'banger vm prune', brief: 'show, ask, delete' },
    { line: 'banger vm prune -f', brief: 'delete without asking' },
  ],
  flags: { force: toggle('Do not ask', { letter: 'f' }), json: jsonFlag },
  async run(context, flags) {
    if (!flags.force && (flags.json || !context.stdinIsTTY)) {
      throw new BangerError(
        'usage',
        'refusing to delete VMs without asking: there is no terminal to ask on',
        {
          hint: 'banger vm prune --force',
        },
      );
    }
    return await withClient(context, async (client) => {
      const agreed = flags.force || (await askUntilStable(context, client));
      if (!agreed) return 1;
      const deleted = await withProgress(context, ({ signal, onProgress }) =>
        client.call('vm.prune', {}, { signal, onProgress }),
      );
      if (flags.json) printJson(context.stdout, deleted);
      else context.stdout.write(deleted.length === 0 ? 'nothing to prune\n' : formatDone('deleted')(deleted));
      return 0;
    });
  },
});

/** A VM that stopped while the question stood was not agreed to: the list is shown again. */
async function askUntilStable(context: CliContext, client: CliClient): Promise<boolean> {
  let candidates = await client.call('vm.prune', { dryRun: true });
  while (candidates.length > 0) {
    context.stdout.write(formatVmTable(candidates));
    const subject =
      candidates.length === 1 ? 'this VM and its disk' : `these ${candidates.length} VMs and their disks`;
    const answer = await context.ports.readLine(`Delete ${subject}? [y/N] `);
    if (answer === null || !/^y(es)?$/i.test(answer.trim())) {
      context.stderr.write('nothing deleted\n');
      return false;
    }
    const now = await client.call('vm.prune', { dryRun: true });
    if (isSubset(now, candidates)) return true;
    context.stderr.write('the list has changed meanwhile:\n');
    candidates = now;
  }
  return true;
}

function isSubset(vms: readonly VmView[], of: readonly VmView[]): boolean {
  const ids = new Set(of.map((vm) => vm.id));
  return vms.every((vm) => ids.has(vm.id));
}
