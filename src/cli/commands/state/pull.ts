import { BangerError } from '../../../core/errors.ts';
import { defineCommand, oneArgument } from '../../command.ts';
import { jsonFlag, text } from '../../flags.ts';
import { longCall } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { formatSnapshot } from '../../output/snapshots.ts';
import { withOfflineClient } from '../../with-state-client.ts';

export const command = defineCommand({
  description:
    'Fetches a snapshot by the digest that "state push" printed, checks every byte, and keeps it in the local collection. ' +
    'Restores nothing: that is "state bootstrap". With --tag what you get is whatever the tag points to at that moment.',
  examples: [
    {
      line: 'banger state pull "registry.example.com/team/banger-state@$DIGEST"',
      brief: 'exactly that one',
    },
    {
      line: 'banger state pull registry.example.com/team/banger-state --tag stable --ref theirs',
      brief: 'by tag, to be called "theirs" here',
    },
  ],
  argument: oneArgument('REPOSITORY', 'REGISTRY/NAME@sha256:…, or REGISTRY/NAME with --tag'),
  flags: {
    tag: text('TAG', 'The snapshot this tag points to now'),
    ref: text('NAME', 'Call it NAME here'),
    json: jsonFlag,
  },
  async run(context, flags, [reference = '']) {
    const { repository, digest } = splitReference(reference, flags.tag);
    const pulled = await withOfflineClient(context, (client) =>
      longCall(context, client, 'state.pull', {
        repository,
        ...(digest !== undefined && { digest }),
        ...(flags.tag !== undefined && { tag: flags.tag }),
        ...(flags.ref !== undefined && { ref: flags.ref }),
      }),
    );
    if (flags.json) printJson(context.stdout, pulled);
    else context.stdout.write(formatSnapshot(pulled));
  },
});

interface Reference {
  readonly repository: string;
  readonly digest: string | undefined;
}

/** @throws {BangerError} `usage`: no registry, both a digest and a tag, or neither */
function splitReference(reference: string, tag: string | undefined): Reference {
  const at = reference.indexOf('@');
  const repository = at === -1 ? reference : reference.slice(0, at);
  const digest = at === -1 ? undefined : reference.slice(at + 1);
  if (digest !== undefined && tag !== undefined) {
    throw new BangerError('usage', 'a digest and --tag: one of them says which snapshot it is');
  }
  const inlineTag = /^(.*\/[^/:]*):([^/:]+)$/.exec(repository);
  if (inlineTag !== null) {
    throw new BangerError('usage', `"${repository}" has a tag in it`, {
      hint: `banger state pull ${inlineTag[1]} --tag ${inlineTag[2]}`,
    });
  }
  if (!repository.includes('/')) {
    throw new BangerError('usage', `"${reference}" does not say from which registry`, {
      hint: 'banger state pull REGISTRY/NAME@sha256:…, as "state push" printed it',
    });
  }
  if (digest === undefined && tag === undefined) {
    throw new BangerError('usage', `which snapshot of ${repository}?`, {
      hint: `banger state pull ${repository}@sha256:…, as "state push" printed it; or --tag TAG`,
    });
  }
  return { repository, digest };
}
