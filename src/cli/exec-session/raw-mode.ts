/**
 * Raw mode of the local terminal. A process that ends inside of it, by a crash or `process.exit`, gives it back too: node itself
 * restores the modes its standard streams had at the start (`ResetStdio` in its src/node.cc).
 */

import type { SessionInput, SignalSource } from './types.ts';

/**
 * Switches the terminal to raw mode. Returns what switches it back.
 * A process that was stopped from outside and continues finds the mode its shell has set: it is set again then.
 * @param onContinued called after that: the window may have another size
 */
export function enterRawMode(stdin: SessionInput, source: SignalSource, onContinued: () => void): () => void {
  const setRawMode = (raw: boolean) => {
    try {
      stdin.setRawMode?.(raw);
    } catch {
      // The terminal has gone: there is no mode left to set (EIO, EBADF).
    }
  };
  const onContinue = () => {
    // Node remembers the mode it set last and would skip setting the same again.
    setRawMode(false);
    setRawMode(true);
    onContinued();
  };
  setRawMode(true);
  source.on('SIGCONT', onContinue);
  return () => {
    source.off('SIGCONT', onContinue);
    setRawMode(false);
  };
}
