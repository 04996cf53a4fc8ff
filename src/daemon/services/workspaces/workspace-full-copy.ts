/** A full copy put into a guest: written beside its place, and moved there when all of it is on the guest's disk. */

import { printable } from '../../../core/channel/close.ts';
import { BangerError } from '../../../core/errors.ts';
import type { CopiedSubmodule, ShippedState } from '../../../core/model/workspace.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import { run } from '../../../guest/run.ts';
import type { FullCopy } from '../../../workspace/full-copy.ts';
import { type ShippedRecord, writeShippedRecords } from '../../../workspace/shipped-record.ts';
import { shippedFilesIn } from '../../shipped-files.ts';
import type { VmFiles } from '../../vm-files.ts';

const PROGRAM_TIMEOUT_MS = 60_000;
const CLEANUP_TIMEOUT_MS = 30_000;
const MAX_OUTPUT_BYTES = 64 * 1024;
const MAX_WORDS = 200;

/** Beside the copy's place, so that one rename moves it there; hidden, for what a killed daemon leaves. */
function stagingPath(guestPath: string): string {
  const slash = guestPath.lastIndexOf('/');
  return `${guestPath.slice(0, slash)}/.banger-new-${guestPath.slice(slash + 1)}`;
}

/**
 * Everything is in the guest afterwards, under another name. What it began is removed when it fails.
 * @throws {BangerError} as `AgentClient.unpack`
 */
export async function sendFullCopy(
  agent: Pick<AgentClient, 'exec' | 'unpack' | 'sync'>,
  copy: FullCopy,
  guestPath: string,
  signal: AbortSignal,
): Promise<void> {
  const base = stagingPath(guestPath);
  const removal = ['rm', '-rf', '--', base] as const;
  try {
    await inGuest(agent, removal, signal);
    await agent.unpack({ base, marksShipped: true }, copy.records(), signal);
    // A rename may reach the disk before the files do.
    await agent.sync(signal);
  } catch (error) {
    await inGuest(agent, removal, AbortSignal.timeout(CLEANUP_TIMEOUT_MS)).catch(() => undefined);
    throw error;
  }
}

/**
 * Gives the copy its name. Can be repeated: a copy that has it already keeps it.
 * @throws {BangerError} `guest_failed`: something is at its place
 */
export async function placeFullCopy(
  agent: Pick<AgentClient, 'exec'>,
  guestPath: string,
  signal: AbortSignal,
): Promise<void> {
  const staging = stagingPath(guestPath);
  if ((await inGuest(agent, ['test', '-e', staging], signal, [0, 1])) !== 0) return;
  await inGuest(agent, ['mv', '-T', '--', staging, guestPath], signal);
}

async function inGuest(
  agent: Pick<AgentClient, 'exec'>,
  argv: readonly string[],
  signal: AbortSignal,
  okStatuses: readonly number[] = [0],
): Promise<number> {
  const result = await run(
    agent,
    { argv, cwd: '/', env: { LC_ALL: 'C' } },
    { signal, timeoutMs: PROGRAM_TIMEOUT_MS, maxOutputBytes: MAX_OUTPUT_BYTES },
  );
  if (okStatuses.includes(result.status)) return result.status;
  const words = printable(result.stderr.toString('utf8').trim()).slice(0, MAX_WORDS);
  throw new BangerError('guest_failed', `the copy cannot be put in its place in the guest: ${words}`, {
    hint: 'give another place with --guest-path',
  });
}

/** For the row. The rest of what is known goes to files. */
export interface ShippedCopy {
  readonly shipped: ShippedState;
  readonly submodules: readonly CopiedSubmodule[];
}

export async function keepFullCopyRecords(files: VmFiles, copy: FullCopy): Promise<ShippedCopy> {
  const submodules: CopiedSubmodule[] = [];
  let shipped: ShippedState | undefined;
  for (const { path, gitDir, record } of copy.repos) {
    const { shippedFile } = shippedFilesIn(files.dir, path === '' ? undefined : path);
    await writeShippedRecords(shippedFile, [record]);
    if (path === '') shipped = stateOf(record);
    else submodules.push({ path, gitDir, headCommit: record.headCommit, shipped: stateOf(record) });
  }
  if (shipped === undefined) throw new Error('a copy without a top');
  return { shipped, submodules };
}

function stateOf({ commit, tree, branch, staged }: ShippedRecord): ShippedState {
  return { commit, tree, branch, staged };
}
