/** Raw mode of the local terminal, given back however the process ends. */

import type { SessionInput, SignalSource } from './types.ts';

/**
 * Switches the terminal to raw mode. Returns what switches it back; that happens too when the process exits without calling it.
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
  const onExit = () => setRawMode(false);
  setRawMode(true);
  source.on('exit', onExit);
  source.on('SIGCONT', onContinue);
  return () => {
    source.off('exit', onExit);
    source.off('SIGCONT', onContinue);
    setRawMode(false);
  };
}
