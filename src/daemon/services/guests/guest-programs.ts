/** Programs in a guest, run through its agent, for what works on the guest's files. */

import { type CloseFailure, closeWord, ERRNO } from '../../../core/channel/close.ts';
import { BangerError } from '../../../core/errors.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import { run } from '../../../guest/run.ts';
import { type GuestPrograms, MAX_GUEST_STDERR_BYTES } from '../../../workspace/guest-programs.ts';

export function guestPrograms(agent: Pick<AgentClient, 'exec'>): GuestPrograms {
  return {
    async run({ argv, cwd, env, input }, limits) {
      try {
        const request = { argv, cwd, env: { ...env } };
        return await run(agent, request, {
          ...limits,
          maxStderrBytes: MAX_GUEST_STDERR_BYTES,
          ...(input !== undefined && { input }),
        });
      } catch (error) {
        throw isMissing(error)
          ? new BangerError('dependency_missing', `there is no ${argv[0]} in the VM`, {
              hint: 'install it there, or use an image that has it: apt-get install git',
              cause: error,
            })
          : error;
      }
    },
  };
}

function isMissing(error: unknown): boolean {
  const failure =
    error instanceof BangerError ? (error.cause as Partial<CloseFailure> | undefined) : undefined;
  if (failure?.kind !== 'failed' || failure.text === undefined) return false;
  return failure.errno === ERRNO.ENOENT && closeWord(failure as CloseFailure) === 'spawn';
}
