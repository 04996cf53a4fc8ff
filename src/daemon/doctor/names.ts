/** Whether this host looks names of VMs up where the daemon answers for them: docs/names.md. */

import type { NameServerStatus } from '../../api/results/daemon.ts';
import { BangerError } from '../../core/errors.ts';
import { hostPrefixOf, instanceAddressOf } from '../../core/host-address.ts';
import { tagOf } from '../../host/paths.ts';
import { TOP } from '../names/answer.ts';
import { PROBE_NAME } from '../names/vm-zone.ts';
import { type Check, info, ok, type Outcome, warning } from './check.ts';
import type { DoctorContext } from './context.ts';

const PROBE = `${PROBE_NAME}.${TOP}`;
const LOOKUP_TIMEOUT_MS = 2000;
const STATUS_TIMEOUT_MS = 2000;
/** getent(1): one or more supplied keys could not be found. */
const NOT_FOUND = 2;
const PAGE = 'docs/names.md says how';

export const names: Check<DoctorContext> = {
  id: 'daemon.names',
  group: 'daemon',
  title: 'names of VMs',
  timeoutMs: 10_000,
  run: async (context, signal) => {
    const daemon = await context.daemon();
    if (daemon.kind !== 'answers') return info('no daemon answers for them now');
    const timeout = AbortSignal.any([signal, AbortSignal.timeout(STATUS_TIMEOUT_MS)]);
    const status = await daemon.client.call('daemon.status', {}, { signal: timeout });
    return status.names === null
      ? info('turned off: [dns] enabled = false')
      : await judge(context, status.names, signal);
  },
};

async function judge(
  context: DoctorContext,
  { address, problem }: NameServerStatus,
  signal: AbortSignal,
): Promise<Outcome> {
  if (problem !== null) {
    return warning(`nobody is answered on ${address}: ${problem}`, {
      fix: 'end what has it, or choose another address in config.toml: [dns] listen = "127.0.0.1:42070"',
    });
  }
  const own = instanceAddressOf(hostPrefixOf(Number.parseInt(tagOf(context.paths.stateDir), 16)));
  const found = await lookUp(context, signal);
  if (found === 'unknown') return info('whether this host looks them up cannot be told: getent is not here');
  if (found === 'silent') {
    return warning(`the resolver of this host did not say within ${LOOKUP_TIMEOUT_MS / 1000} s`, {
      fix: PAGE,
    });
  }
  if (found.includes(own)) return ok(`this host looks them up at ${address}`);
  if (found.length > 0) {
    return warning(`this host looks them up elsewhere: ${PROBE} is ${found.join(', ')}, not ${own}`, {
      fix: `send .${TOP} to ${address}: ${PAGE}`,
    });
  }
  return info(`this host does not look them up at ${address}; the addresses are in "banger vm list"`, {
    fix: `${PAGE} it can`,
  });
}

/**
 * As programs do, with getaddrinfo(3). In a process of its own: a resolver may take its time, and a thread of ours that waits
 * for it cannot be ended.
 */
async function lookUp(
  { runner }: DoctorContext,
  signal: AbortSignal,
): Promise<readonly string[] | 'silent' | 'unknown'> {
  try {
    const argv = ['getent', 'ahosts', PROBE] as const;
    const options = { signal, timeoutMs: LOOKUP_TIMEOUT_MS, okStatuses: [0, NOT_FOUND] };
    const { stdout } = await runner.run(argv, options);
    return [...new Set([...stdout.toString().matchAll(/^(\S+)/gm)].map(([, address = '']) => address))];
  } catch (error) {
    const code = error instanceof BangerError ? error.code : undefined;
    if (code === 'timeout') return 'silent';
    if (code === 'dependency_missing') return 'unknown';
    throw error;
  }
}
