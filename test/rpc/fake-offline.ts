/** An offline process for connect-offline.test.ts: says in `DIR/events` what it does; or fails as it is told. */

import { appendFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../../src/core/errors.ts';
import { serveOne } from '../../src/rpc/serve-one.ts';
import { aborted, handlersWith, VERSION } from './fixture.ts';

const [dir = '', how = 'serve'] = process.argv.slice(2);
const say = (event: string): void => appendFileSync(join(dir, 'events'), `${event}\n`);

say(`pid ${process.pid}`);
if (how === 'fail') {
  console.error('cannot \u001b[31mgo on\n\n');
  process.exit(3);
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => say(signal));
await serveOne(new Socket({ fd: 3 }), {
  version: VERSION,
  log: { debug: () => undefined, warn: () => undefined, error: () => undefined },
  handlers: handlersWith({
    'state.list': async () => [],
    'doctor.run': async () => {
      throw new Error('a bug');
    },
    // Until it is cancelled; then it takes its time to undo what it did.
    'state.verify': async (_params, { signal, progress }) => {
      say('begun');
      progress({ step: 'verify', text: 'begun' });
      await aborted(signal);
      say('undoing');
      await sleep(100);
      say('undone');
      throw new BangerError('cancelled', 'cancelled');
    },
  }),
});
say('ended');
