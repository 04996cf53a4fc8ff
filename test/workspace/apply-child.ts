/** A process that applies a copy's changes and kills itself at a step: JSON of `ApplyChild` on its command line. */

import { applyTo, type GuestCopy } from '../helpers/guest-copy.ts';
import { repoAt, runner } from '../helpers/host-repo.ts';
import { LocalGuest } from '../helpers/local-guest.ts';

export interface ApplyChild {
  /** Of the copy. */
  readonly dir: string;
  readonly hostDir: string;
  readonly copy: Pick<GuestCopy, 'headCommit' | 'shipped' | 'scratchPath'>;
  readonly conflictMarkers: boolean;
  /** Before so many programs of the host are run, or before so many files are written. */
  readonly killAt: { readonly programs: number } | { readonly written: number };
}

const { dir, hostDir, copy, conflictMarkers, killAt } = JSON.parse(process.argv[2] ?? '') as ApplyChild;
const die = (): void => {
  process.kill(process.pid, 'SIGKILL');
};
let programs = 0;
await applyTo({ ...copy, repo: repoAt(dir), programs: new LocalGuest() }, hostDir, {
  conflictMarkers,
  runner: {
    run: (argv, options) => {
      const running = runner.run(argv, options);
      programs += 1;
      if ('programs' in killAt && programs === killAt.programs) die();
      return running;
    },
  },
  onProgress: (text, done) => {
    if ('written' in killAt && text === 'writing files' && done === killAt.written) die();
  },
});
