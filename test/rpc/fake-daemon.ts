/** A daemon for connect.test.ts: takes the lock, listens, says what it does; or fails as it is told. */

import { appendFileSync, linkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT_ALREADY_RUNNING } from '../../src/rpc/daemon-exit.ts';
import { listen } from '../../src/rpc/server.ts';
import { TicketBooth } from '../../src/rpc/tickets.ts';
import { handlersWith, VERSION } from './fixture.ts';

const [dir = '', how = 'serve'] = process.argv.slice(2);
appendFileSync(join(dir, 'started'), `${process.pid}\n`);
if (how === 'fail') {
  console.log(JSON.stringify({ level: 'error', msg: 'bad \u001b[31mconfig' }));
  console.error('bangerd: cannot go on');
  process.exit(3);
}
if (how === 'hang') await sleep(60_000);

// A lock for the test alone: link(2) fails when the name exists.
const lock = join(dir, 'lock');
const own = join(dir, `lock.${process.pid}`);
writeFileSync(own, '');
try {
  linkSync(own, lock);
} catch {
  process.exit(EXIT_ALREADY_RUNNING);
} finally {
  rmSync(own);
}
// Slow, so that others find the lock taken and nobody answering.
await sleep(150);
const log = { debug: () => undefined, warn: () => undefined, error: () => undefined };
const server = await listen({
  socketPath: join(dir, 'run', 'd.sock'),
  streamSocketPath: join(dir, 'run', 's.sock'),
  tickets: new TicketBooth(),
  version: VERSION,
  log,
  handlers: handlersWith({
    'daemon.status': async () => ({ pid: process.pid, stateDir: process.cwd() }) as never,
    'daemon.stop': async () => {
      setTimeout(() => void stop(), 0);
      return null;
    },
  }),
});

async function stop(): Promise<void> {
  await server.close();
  // The socket is gone, the lock not yet: the next daemon must wait.
  await sleep(200);
  rmSync(lock);
  process.exit(0);
}
