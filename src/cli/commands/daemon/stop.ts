import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';

export const command = defineCommand({
  description:
    'Stops the daemon and waits until it is gone. VMs keep running; the next command starts a daemon that finds them again. ' +
    'Operations in progress are cancelled. Succeeds when it does not run.',
  examples: [{ line: 'banger daemon stop', brief: 'for example before an upgrade' }],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const client = await context.ports.connect({ start: false });
    if (client !== null) {
      try {
        const gone = context.ports.processEnd((await client.call('daemon.status', {})).pid);
        await client.call('daemon.stop', {});
        // It hangs up before it has let go of its database and its lock.
        await gone;
      } finally {
        client.close();
      }
    }
    const stopped = client !== null;
    if (flags.json) printJson(context.stdout, { running: false, stopped });
    else context.stdout.write(stopped ? 'stopped\n' : 'not running\n');
  },
});
