import type { DoctorFix } from '../../api/results/doctor.ts';
import { BangerError } from '../../core/errors.ts';
import type { CliClient, CliContext } from '../cli-context.ts';
import { defineCommand } from '../command.ts';
import { jsonFlag, toggle } from '../flags.ts';
import { longCall } from '../long-call.ts';
import { formatDoctorFixes, formatDoctorReport } from '../output/doctor-report.ts';
import { printJson } from '../output/json.ts';
import { styleFor } from '../output/style.ts';
import { withOfflineClient } from '../with-state-client.ts';

interface FixFlags {
  readonly 'dry-run': boolean;
  readonly yes: boolean;
  readonly json: boolean;
}

export const command = defineCommand({
  description:
    'Looks at the host, the daemon, the state, images, VMs, the configuration and who may read what, and says of each problem ' +
    'how to mend it. Changes nothing, needs no daemon and starts none. Exits 1 when something is marked FAIL.\n' +
    '--fix does what can be done safely by itself, after saying what and asking; it never touches a disk, a running VM or ' +
    'the content of the database. Exits 1 when something could not be done.',
  examples: [
    { line: 'banger doctor', brief: 'the first thing to run when something does not work' },
    { line: 'banger doctor --deep', brief: 'also every byte of images and kernels, and a probe boot' },
    { line: 'banger doctor --fix --dry-run', brief: 'what it would mend' },
    {
      line: `banger doctor --json | jq '.findings[] | select(.severity == "failure")'`,
      brief: 'for scripts',
    },
  ],
  flags: {
    deep: toggle('Also check digests of images and kernels, and boot a probe: up to minutes'),
    fix: toggle('Mend what can be mended safely, after asking'),
    'dry-run': toggle('With --fix: only say what would be done', { letter: 'n' }),
    yes: toggle('With --fix: do not ask', { letter: 'y' }),
    json: jsonFlag,
  },
  async run(context, flags) {
    if (flags.fix && flags.deep) throw new BangerError('usage', '--deep looks, --fix mends: one of them');
    if (!flags.fix && (flags['dry-run'] || flags.yes)) {
      throw new BangerError('usage', `${flags.yes ? '--yes' : '--dry-run'} goes with --fix`);
    }
    if (flags.fix) return await fix(context, flags);
    const report = await withOfflineClient(context, (client) =>
      longCall(context, client, 'doctor.run', { deep: flags.deep }),
    );
    if (flags.json) printJson(context.stdout, report);
    else context.stdout.write(formatDoctorReport(report, styleFor(context.stdout, context.env)));
    return report.worst === 'failure' ? 1 : 0;
  },
});

async function fix(context: CliContext, flags: FixFlags): Promise<number> {
  const mayAsk = context.stdinIsTTY && !flags.json;
  if (!flags['dry-run'] && !flags.yes && !mayAsk) {
    throw new BangerError('usage', 'refusing to mend without asking: there is no terminal to ask on', {
      hint: 'banger doctor --fix --yes, or --dry-run to see what it would do',
    });
  }
  return await withOfflineClient(context, async (client) => {
    if (flags['dry-run']) {
      print(context, flags, await plan(context, client));
      return 0;
    }
    if (!flags.yes && !(await askUntilStable(context, client))) return 1;
    const fixes = await longCall(context, client, 'doctor.fix', { dryRun: false });
    print(context, flags, fixes);
    return fixes.some(({ done }) => done === false) ? 1 : 0;
  });
}

function plan(context: CliContext, client: CliClient): Promise<readonly DoctorFix[]> {
  return longCall(context, client, 'doctor.fix', { dryRun: true });
}

function print(context: CliContext, flags: FixFlags, fixes: readonly DoctorFix[]): void {
  if (flags.json) printJson(context.stdout, fixes);
  else if (fixes.length === 0)
    context.stdout.write('nothing that --fix mends; "banger doctor" says what else is wrong\n');
  else context.stdout.write(formatDoctorFixes(fixes, styleFor(context.stdout, context.env)));
}

/** What came up while the question stood was not agreed to: the list is shown again. */
async function askUntilStable(context: CliContext, client: CliClient): Promise<boolean> {
  let planned = await plan(context, client);
  while (planned.length > 0) {
    context.stdout.write(formatDoctorFixes(planned, styleFor(context.stdout, context.env)));
    const answer = await context.ports.readLine('Do this? [y/N] ');
    if (answer === null || !/^y(es)?$/i.test(answer.trim())) {
      context.stderr.write('nothing done\n');
      return false;
    }
    const agreed = new Set(planned.map(({ what }) => what));
    const now = await plan(context, client);
    if (now.every(({ what }) => agreed.has(what))) return true;
    context.stderr.write('the list has changed meanwhile:\n');
    planned = now;
  }
  return true;
}
