/** The requests about state and health, which a daemon and an offline process both answer, each in its way. */

import type { Method } from '../api/contract.ts';
import { BangerError } from '../core/errors.ts';
import type { Handlers } from '../rpc/server-types.ts';

/** Methods of these two groups. */
export type StateMethod = Extract<Method, `state.${string}` | `doctor.${string}`>;
export type StateHandlers = Pick<Handlers, StateMethod>;

/** A handler for methods that this process does not serve. */
export function refusal(refuse: () => BangerError): () => Promise<never> {
  return async () => {
    throw refuse();
  };
}

/** Doctor looks at the daemon from outside, and these two need that none runs. */
export function daemonRefusals(): Pick<
  StateHandlers,
  'doctor.run' | 'doctor.fix' | 'state.bootstrap' | 'state.rebuild'
> {
  const doctor = refusal(
    () => new BangerError('unavailable', 'the daemon does not examine itself', { hint: 'banger doctor' }),
  );
  const inUse = refusal(
    () =>
      new BangerError('in_use', 'the state cannot be replaced while the daemon works on it', {
        hint: 'banger daemon stop; its VMs keep running',
      }),
  );
  return { 'doctor.run': doctor, 'doctor.fix': doctor, 'state.bootstrap': inUse, 'state.rebuild': inUse };
}
