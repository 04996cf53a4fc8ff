import { BangerError } from '../../../core/errors.ts';
import { formatSize } from '../../../core/units.ts';
import { defineCommand } from '../../command.ts';
import { completeSnapshots } from '../../complete-names.ts';
import { jsonFlag, text } from '../../flags.ts';
import { longCall } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { formatPairs } from '../../output/table.ts';
import { snapshotSource } from '../../snapshot-argument.ts';
import { withOfflineClient } from '../../with-state-client.ts';

const DEFAULT_SNAPSHOT = 'latest';

export const command = defineCommand({
  description:
    'Puts the snapshot into a repository of an OCI registry, as an artifact named by its digest, and prints what a pull takes. ' +
    'Logins are those of docker, podman or skopeo. A tag is set only with --tag: unlike a digest, it can be moved by anybody ' +
    'who may push. Takes the last exported snapshot, not the state as it is now: run "banger state export" first.',
  examples: [
    { line: 'banger state push registry.example.com/team/banger-state', brief: 'the last snapshot' },
    {
      line: 'banger state push registry.example.com/team/banger-state before-upgrade --tag stable',
      brief: 'another one, with a tag',
    },
  ],
  argument: {
    placeholder: 'REGISTRY/NAME',
    brief: 'Repository, without a tag or digest',
    minimum: 1,
    maximum: 1,
    second: {
      placeholder: 'SNAPSHOT',
      brief: `Digest, ref or path of a snapshot. Default: ${DEFAULT_SNAPSHOT}`,
      complete: completeSnapshots,
    },
  },
  flags: { tag: text('TAG', 'Also set this tag'), json: jsonFlag },
  async run(context, flags, [repository = '', snapshot = DEFAULT_SNAPSHOT]) {
    if (!repository.includes('/')) {
      throw new BangerError('usage', `"${repository}" does not say in which registry`, {
        hint: `banger state push REGISTRY/${repository === '' ? 'NAME' : repository}`,
      });
    }
    const pushed = await withOfflineClient(context, (client) =>
      longCall(context, client, 'state.push', {
        source: snapshotSource(context, snapshot),
        repository,
        ...(flags.tag !== undefined && { tag: flags.tag }),
      }),
    );
    if (flags.json) {
      printJson(context.stdout, pushed);
      return;
    }
    context.stdout.write(
      formatPairs([
        ['pushed', `${pushed.repository}@${pushed.digest}`],
        ['snapshot', pushed.snapshot],
        ['tag', pushed.tag ?? '-'],
        ['uploaded', formatSize(pushed.uploadedBytes)],
      ]),
    );
  },
});
