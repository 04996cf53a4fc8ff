import type { ConfigEntry, ConfigShown } from '../../../core/model/config.ts';
import { BangerError } from '../../../core/errors.ts';
import type { CliContext } from '../../cli-context.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatTable } from '../../output/table.ts';
import { withOfflineClient } from '../../with-state-client.ts';

export const command = defineCommand({
  description:
    'Each setting with its value and where that comes from: a line of the file, a variable, the default, or this host. ' +
    'Says so when the running daemon was started with others.',
  examples: [
    { line: 'banger config show', brief: 'what holds, and why' },
    {
      line: `banger config show --json | jq '.entries[] | select(.source == "file")'`,
      brief: 'what the file says',
    },
  ],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const shown = await withOfflineClient(context, (client) => client.call('config.show', {}));
    const running = await shownByDaemon(context);
    // Equal settings may be written differently.
    const stale = running === null || running.digest === shown.digest ? [] : differences(shown, running);
    if (flags.json) {
      printJson(context.stdout, { ...shown, staleInDaemon: stale });
      return;
    }
    context.stdout.write(
      formatTable(
        ['KEY', 'VALUE', 'FROM'],
        shown.entries.map((entry) => rowOf(entry, shown.file)),
      ),
    );
    if (stale.length > 0) {
      context.stderr.write(
        `note: the running daemon has other settings: ${stale.join(', ')}\n` +
          'banger daemon stop ends it; its VMs keep running, and the next command starts it with these\n',
      );
    }
  },
});

/** Null when none answers, or one of another version. */
async function shownByDaemon(context: CliContext): Promise<ConfigShown | null> {
  let client: Awaited<ReturnType<CliContext['ports']['connect']>> | null = null;
  try {
    client = await context.ports.connect({ start: false });
    return client === null ? null : await client.call('config.show', {});
  } catch (error) {
    if (error instanceof BangerError) return null;
    throw error;
  } finally {
    client?.close();
  }
}

function differences(now: ConfigShown, running: ConfigShown): readonly string[] {
  const valueOf = ({ entries }: ConfigShown, key: string): string =>
    JSON.stringify(entries.find((entry) => entry.key === key)?.value ?? null);
  const keys = new Set([...now.entries, ...running.entries].map(({ key }) => key));
  return [...keys].filter((key) => valueOf(now, key) !== valueOf(running, key));
}

function rowOf({ key, value, source, line, note }: ConfigEntry, file: string): readonly string[] {
  const shown = value === null ? '-' : JSON.stringify(value);
  const plain = note?.replaceAll('`', '');
  switch (source) {
    case 'file':
      return [key, shown, `${file}:${line}`];
    case 'environment':
      return [key, shown, plain ?? 'environment'];
    case 'auto':
      return [key, shown, 'this host'];
    case 'default':
      return [key, shown, plain === undefined ? 'default' : `default: ${plain}`];
  }
}
