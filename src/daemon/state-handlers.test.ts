import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BangerError } from '../core/errors.ts';
import type { RequestContext } from '../rpc/server-types.ts';
import { daemonRefusals } from './state-handlers.ts';

test('what a daemon refuses says what to run instead', async () => {
  const refusals = daemonRefusals();
  const context = {} as RequestContext;
  const asked = [
    refusals['doctor.run']({ deep: false }, context),
    refusals['doctor.fix']({ dryRun: true }, context),
    refusals['state.bootstrap']({ source: 'latest', force: true, allowRollback: [] }, context),
    refusals['state.rebuild']({ dryRun: false }, context),
  ];
  const errors = await Promise.all(
    asked.map((promise) =>
      promise.then(
        () => undefined,
        (error: unknown) => error as BangerError,
      ),
    ),
  );
  assert.deepEqual(
    errors.map((error) => [error?.code, error?.hint]),
    [
      ['unavailable', 'banger doctor'],
      ['unavailable', 'banger doctor'],
      ['in_use', 'banger daemon stop; its VMs keep running'],
      ['in_use', 'banger daemon stop; its VMs keep running'],
    ],
  );
});
