/** The requests about state and health, which a daemon and an offline process both answer, each in its way. */

import type { Method } from '../api/contract.ts';
import { BangerError } from '../core/errors.ts';
import type { Handlers, RequestContext } from '../rpc/server-types.ts';
import type { OperationHandle } from './operations.ts';
import type { StateService } from './services/state/state-service.ts';

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

/** Runs a request's work as this process runs operations. */
export type RunOperation = <T>(
  context: RequestContext,
  work: (operation: OperationHandle) => Promise<T>,
) => Promise<T>;

type ReadingHandlers = Omit<StateHandlers, keyof ReturnType<typeof daemonRefusals>>;

/** What both serve alike. `service` is asked for at each request. */
export function stateServiceHandlers(
  service: () => StateService | Promise<StateService>,
  run: RunOperation,
): ReadingHandlers {
  return {
    'state.export': (params, context) =>
      run(context, async (operation) => (await service()).export(params, operation)),
    'state.verify': (params, context) =>
      run(context, async (operation) => (await service()).verify(params, operation)),
    'state.list': async () => (await service()).list(),
    'state.prune': async (params) => (await service()).prune(params),
    'state.push': (params, context) =>
      run(context, async (operation) => (await service()).push(params, operation)),
    'state.pull': (params, context) =>
      run(context, async (operation) => (await service()).pull(params, operation)),
    'state.diff': (params, context) =>
      run(context, async (operation) => (await service()).diff(params, operation)),
  };
}
