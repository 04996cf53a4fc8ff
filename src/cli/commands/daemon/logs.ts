import { BangerError } from '../../../core/errors.ts';
import { defineCommand } from '../../command.ts';
import { count, toggle } from '../../flags.ts';
import { followFile } from '../../follow-file.ts';

export const command = defineCommand({
  description:
    'JSON lines, one event each; every error message of banger names an operation id that its lines carry.',
  examples: [
    { line: 'banger daemon logs -n 20', brief: 'the last lines' },
    { line: 'banger daemon logs -f', brief: 'and what follows, until Ctrl-C' },
    { line: 'banger daemon logs | grep 3f2a9c01d4e5', brief: 'what one operation did' },
  ],
  flags: {
    follow: toggle('Go on printing until Ctrl-C', { letter: 'f' }),
    tail: count('N', 'Only the last N lines', 0, { letter: 'n' }),
    json: toggle('Print errors as JSON on stderr; the log is JSON lines anyway'),
  },
  async run(context, flags) {
    const path = context.ports.daemonLogPath();
    using interruption = context.ports.interruption();
    const found = await followFile(path, {
      write: (bytes) => context.ports.writeBytes(bytes),
      follow: flags.follow,
      tailLines: flags.tail,
      signal: interruption.signal,
    }).catch((error: NodeJS.ErrnoException) => {
      // The reader of a pipe went away (`| head`): nothing is left to do.
      if (error.code !== 'EPIPE') throw error;
      return true;
    });
    if (!found) {
      throw new BangerError('not_found', `there is no log yet at ${path}`, { hint: 'banger daemon start' });
    }
  },
});
