import type { DaemonStatus } from '../../../api/results/daemon.ts';
import { formatSize } from '../../../core/units.ts';
import type { CliContext } from '../../cli-context.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatPairs } from '../../output/table.ts';
import { timeAgo } from '../../output/times.ts';

export const command = defineCommand({
  description: 'Exits 0 when the daemon runs and 1 when it does not. Never starts it.',
  examples: [
    { line: 'banger daemon status --json', brief: 'for scripts: {"running":false} when it does not run' },
  ],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const status = await askStatus(context);
    if (status === null) {
      if (flags.json) printJson(context.stdout, { running: false });
      else context.stdout.write('not running\n');
      return 1;
    }
    if (flags.json) printJson(context.stdout, { running: true, ...status });
    else context.stdout.write(formatStatus(status));
    return 0;
  },
});

async function askStatus(context: CliContext): Promise<DaemonStatus | null> {
  const client = await context.ports.connect({ start: false });
  if (client === null) return null;
  try {
    return await client.call('daemon.status', {});
  } finally {
    client.close();
  }
}

function namesText(names: DaemonStatus['names']): string {
  if (names === null) return 'not answered for ([dns] enabled = false)';
  if (names.problem !== null) return `not answered for: ${names.address}: ${names.problem}`;
  return `NAME.vm on ${names.address}`;
}

export function formatStatus(status: DaemonStatus): string {
  return formatPairs([
    ['state', 'running'],
    ['version', status.version],
    ['pid', String(status.pid)],
    ['started', `${status.startedAt} (${timeAgo(status.startedAt)})`],
    ['vms', `${status.vmsRunning} running, ${status.vmsTotal} in all`],
    ['operations', String(status.operations)],
    ['waiting', status.standby ? 'a machine for the next VM' : 'none'],
    ['names', namesText(status.names)],
    ['memory', formatSize(status.rssBytes)],
    ['socket', status.socketPath],
    ['data', status.stateDir],
    ['log', status.logPath],
  ]);
}
