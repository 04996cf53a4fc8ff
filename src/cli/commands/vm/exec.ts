import { tellWanted } from '../../bootstrap.ts';
import { defineCommand, oneArgument } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import { text, toggle } from '../../flags.ts';
import { withProgress } from '../../long-call.ts';
import { warnOfDrift } from '../../output/drift.ts';
import { reportError } from '../../output/errors.ts';
import { sessionFlags, sessionParams } from '../../session-flags.ts';
import { withClient } from '../../with-client.ts';

const BANGER_FAILED = 125;

export const command = defineCommand({
  description:
    'Without COMMAND: a login shell. stdin, stdout and stderr are passed on byte for byte; on a terminal the command gets one too. ' +
    'Signals sent to banger reach the command. Exits with its status (128+n when signal n ended it), 127 when it does not exist, ' +
    '126 when it cannot be run, 125 when banger itself failed.\n' +
    'When the repo that was copied into the VM has gone on here, a line on stderr says so.\n' +
    'COMMAND is run as it is, without a shell: for pipes and variables run one, as in: -- sh -c "ls | wc -l".',
  examples: [
    { line: 'banger vm exec dev', brief: 'a shell' },
    { line: 'banger vm exec dev -- uname -a', brief: 'one command' },
    {
      line: 'banger vm exec dev -w /root/repo -e CI=1 -- make test',
      brief: 'in a directory, with a variable',
    },
    { line: 'banger vm exec dev --auto-prepare -- make test', brief: 'with the repo as it is now' },
    { line: 'banger vm exec dev -- cat /etc/os-release > release', brief: 'its output to a file' },
    { line: 'tar c src | banger vm exec dev -- tar x -C /root', brief: 'files in' },
  ],
  argument: oneArgument('VM', 'Name or id of a running VM', completeVms),
  commandBrief: 'The program to run and its arguments. Default: a login shell',
  flags: {
    ...sessionFlags,
    workdir: text(
      'DIR',
      "Directory to start in. Default: for root the repo that was copied, else the user's home",
      { letter: 'w' },
    ),
    'auto-prepare': toggle('First bring the copy of the repo up to date: see vm workspace prepare'),
    json: toggle('Print errors as JSON on stderr'),
  },
  ownFailureStatus: () => BANGER_FAILED,
  run(context, flags, [ref = '']) {
    const params = { ...sessionParams(context, flags, flags.workdir), ref, compareWorkspace: true };
    return withClient(context, async (client) => {
      if (flags['auto-prepare']) {
        const prepared = await withProgress(context, (work) =>
          client.call('workspace.prepare', { ref }, work),
        );
        if (!flags.json) tellWanted(context, prepared.vm, prepared.tools);
      }
      return await context.ports.session(client, params, (error) => reportError(context, error, flags.json), {
        onTicket: ({ drift }) => {
          if (drift !== null) warnOfDrift(context, ref, drift, flags.json);
        },
      });
    });
  },
});
