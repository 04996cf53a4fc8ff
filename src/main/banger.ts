/** The command line's program: reads argv, runs, exits. Everything else is in src/cli. */

import { extname, join } from 'node:path';
import { processIo } from '../cli/process-io.ts';
import { runCli } from '../cli/run-cli.ts';
import { errorText } from '../core/errors.ts';

async function main(): Promise<void> {
  // The daemon's program lies beside this one: a source beside a source, a bundle beside a bundle.
  const extension = extname(import.meta.filename) === '.ts' ? '.ts' : '.js';
  const bangerd = join(import.meta.dirname, `bangerd${extension}`);
  const io = processIo([process.execPath, bangerd]);
  const status = await runCli(process.argv.slice(2), io);
  const failure = await io.stdout.flushed();
  if (failure !== undefined) io.stderr.write(`banger: cannot write to stdout: ${errorText(failure)}\n`);
  // Not left to the event loop: stdin may still be open, and what is left to do is nobody's.
  process.exit(status === 0 && failure !== undefined ? 1 : status);
}

// Not awaited at the top level, so that it can be bundled as a CommonJS module, which starts faster.
void main();
