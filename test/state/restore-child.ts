/** A process that restores, and kills itself at a step: DIR STATES FORCE STEP. */

import { basename } from 'node:path';
import { BangerError } from '../../src/core/errors.ts';
import { readStates, restoreInto } from './restore-states.ts';

const [dir = '', states = '', force = '', killAt = ''] = process.argv.slice(2);
const { snapshot } = readStates(states);
try {
  const { previous } = await restoreInto(dir, snapshot, force === 'force', {
    onStep: (step) => {
      if (step === killAt) process.kill(process.pid, 'SIGKILL');
    },
  });
  process.stdout.write(`restored ${previous === null ? '' : basename(previous)}`);
} catch (error) {
  if (!(error instanceof BangerError)) throw error;
  process.stdout.write(error.code);
}
