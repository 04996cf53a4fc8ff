/** The program under test of exec-session.test.ts: one session on this process's own stdio, and nothing that ends it by force. */

import { runExecSession } from '../../src/cli/exec-session/run-exec-session.ts';
import { runOutputStream } from '../../src/cli/exec-session/run-output-stream.ts';

interface Config {
  readonly ticket: string;
  readonly streamSocketPath: string;
  readonly mode: 'exec' | 'tty' | 'no-stdin' | 'output' | 'crash' | 'exit' | 'linger' | 'limited';
}

const { mode, ...ticket } = JSON.parse(process.argv[2] ?? '') as Config;
const { stdout, stderr } = process;
if (mode === 'output') {
  await runOutputStream({ ticket, stdout, stderr });
} else {
  if (mode === 'crash') process.stdin.on('data', () => crash());
  const status = await runExecSession({
    ticket,
    tty: mode === 'tty' || mode === 'crash' || mode === 'linger',
    stdin: mode === 'no-stdin' ? null : process.stdin,
    stdout,
    stderr,
    ...(mode === 'limited' && { maxOutputBytes: 1000 }),
  });
  if (mode === 'exit') process.exit(status);
  process.exitCode = status;
  if (mode === 'linger') {
    stdout.write('session over');
    setInterval(() => undefined, 1000);
  }
}

function crash(): never {
  throw new Error('a bug');
}
