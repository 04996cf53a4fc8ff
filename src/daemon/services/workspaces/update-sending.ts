/** Sends a planned update of a copy, and finds out what keeps the guest from taking it. */

import { printable } from '../../../core/channel/close.ts';
import { BangerError } from '../../../core/errors.ts';
import { SHIPPED_REF } from '../../../core/model/workspace.ts';
import { ArchiveBlocked, ArchiveConflicts } from '../../../guest/archive/transfer.ts';
import { type BytePath, bytesOf, displayPath } from '../../../workspace/byte-path.ts';
import type { GitFile } from '../../../workspace/guest-git.ts';
import type { GuestRepo } from '../../../workspace/guest-git-runner.ts';
import { findObstacles } from '../../../workspace/guest-obstacles.ts';
import { withGuestTree } from '../../../workspace/guest-tree.ts';
import type { ShippedRecord } from '../../../workspace/shipped-record.ts';
import { isSameEntry } from '../../../workspace/tree-change.ts';
import type { UpdatePlan } from '../../../workspace/update-plan.ts';
import { updateRecords } from '../../../workspace/update-records.ts';
import type { UpdateJob } from './workspace-update.ts';
import { archiveInto } from './workspace-service.ts';

export interface PlannedUpdate
  extends Pick<UpdateJob, 'vmName' | 'workspace' | 'agent' | 'force' | 'saved' | 'signal' | 'onProgress'> {
  readonly plan: UpdatePlan;
  readonly last: ShippedRecord | undefined;
  readonly gitFiles: Promise<readonly GitFile[]>;
  readonly repo: GuestRepo;
}

/** What was found in the guest where the update is to be written. */
interface Findings {
  /** Paths that it has made what they are to be. */
  readonly same: ReadonlySet<BytePath>;
  readonly obstacles: readonly BytePath[];
}

/** A guest that goes on changing its files is not followed for ever. */
const MAX_LOOKS = 4;
const MAX_NAMED = 5;
const SHIPPED_PATH = bytesOf(`.git/${SHIPPED_REF}`);

/**
 * @throws {ArchiveConflicts} for which `isAboutShipped` holds
 * @throws {BangerError} `invalid_state`: the guest has changed what is to be written; and what the transfer throws
 */
export async function sendUpdate(update: PlannedUpdate): Promise<void> {
  let findings: Findings = { same: new Set(), obstacles: [] };
  for (let looks = 0; ; looks += 1) {
    try {
      await send(update, findings);
      return;
    } catch (error) {
      if (looks === MAX_LOOKS) throw error;
      findings = await lookAgain(update, findings, error);
    }
  }
}

/** The guest holds what another shipping than the last one that is known of has brought. */
export function isAboutShipped(error: unknown): boolean {
  return error instanceof ArchiveConflicts && error.conflicts.some(({ path }) => path.equals(SHIPPED_PATH));
}

export function waysOut(vmName: string): string {
  return `banger vm workspace status ${vmName} shows both sides; to keep the VM's as a patch and overwrite it: banger vm workspace prepare ${vmName} --save-patch changes.patch (--force overwrites it without)`;
}

/** What is the same there is sent all the same: it counts as shipped from then on. */
async function send(update: PlannedUpdate, { same, obstacles }: Findings): Promise<void> {
  const { plan, last, force, saved, workspace, agent, gitFiles, signal, onProgress } = update;
  const overwritten = force ? (saved ?? plan.changes.map(({ path }) => path)) : [];
  let done = 0;
  const records = updateRecords({
    rootPath: plan.rootPath,
    changes: plan.changes.filter(({ path, to }) => to !== null || !same.has(path)),
    obstacles,
    shippedBefore: force && saved === undefined ? undefined : last?.commit,
    shippedNow: plan.shipped.commit,
    unchecked: new Set([...overwritten, ...same]),
    gitFiles,
    onFile: () => onProgress(++done, plan.changes.length),
  });
  await agent.unpack(archiveInto(workspace), records, signal);
}

/** @throws the error itself, where nothing was found that explains it */
async function lookAgain(update: PlannedUpdate, findings: Findings, error: unknown): Promise<Findings> {
  if (error instanceof ArchiveBlocked && findings.obstacles.length === 0) {
    const obstacles = await obstaclesOf(update);
    if (obstacles.length > 0) return { ...findings, obstacles };
  }
  if (!(error instanceof ArchiveConflicts) || isAboutShipped(error)) throw error;
  const same = await sameInGuest(update);
  if (same.size > findings.same.size) return { ...findings, same };
  throw overwrites(
    update,
    error.conflicts.map(({ path }) => path.toString('latin1')),
  );
}

async function sameInGuest({ plan, last, repo, workspace }: PlannedUpdate): Promise<ReadonlySet<BytePath>> {
  const options = {
    ...repo,
    base: last?.commit ?? 'HEAD',
    hasSubmodules: workspace.mode === 'full_copy',
  };
  const entries = await withGuestTree(options, (tree) => tree.entries());
  const same = plan.changes.filter(({ path, to }) => isSameEntry(to, entries.get(path)));
  return new Set(same.map(({ path }) => path));
}

/** @throws {BangerError} `invalid_state`: with one of them went what was not saved */
async function obstaclesOf(update: PlannedUpdate): Promise<readonly BytePath[]> {
  const { repo, plan, saved } = update;
  const obstacles = await findObstacles(repo, plan.changes);
  const lost = saved === undefined ? [] : obstacles.flatMap(({ files }) => files);
  const unsaved = lost.filter((path) => saved?.has(path) === false);
  if (unsaved.length > 0) throw overwrites(update, unsaved);
  return obstacles.map(({ path }) => path);
}

function overwrites({ vmName }: PlannedUpdate, paths: readonly BytePath[]): BangerError {
  const named = paths.slice(0, MAX_NAMED).map((path) => printable(displayPath(path)));
  const left = paths.length - named.length;
  const list = left > 0 ? `${named.join(', ')} and ${left} more` : named.join(', ');
  return new BangerError('invalid_state', `changed both here and in VM "${vmName}": ${list}`, {
    hint: waysOut(vmName),
  });
}
