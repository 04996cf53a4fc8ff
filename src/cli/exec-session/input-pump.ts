/** Copies stdin into a stream as fast as its credit allows. */

import type { ClientStream } from '../../rpc/stream-types.ts';
import type { SessionInput } from './types.ts';

export interface InputPump {
  /** The stream takes bytes again. */
  resume(): void;
  /** Stops reading and lets the process end, though the source is still open. What was not read stays there for others. */
  stop(): void;
}

/** Begins reading. The end of stdin, and an error on it (a terminal that went away), is the end of the program's stdin. */
export function pumpInput(stdin: SessionInput, stream: ClientStream): InputPump {
  let stopped = false;
  const onData = (chunk: Uint8Array) => {
    if (!stream.write(chunk)) stdin.pause();
  };
  const onEnd = () => stream.endInput();
  stdin.on('data', onData);
  stdin.on('end', onEnd);
  stdin.on('error', onEnd);
  // A terminal closed by its other side ends with 'close' alone.
  stdin.on('close', onEnd);
  return {
    resume: () => {
      if (!stopped) stdin.resume();
    },
    stop: () => {
      if (stopped) return;
      stopped = true;
      stdin.off('data', onData);
      stdin.off('end', onEnd);
      stdin.off('close', onEnd);
      stdin.pause();
      stdin.unref?.();
    },
  };
}
