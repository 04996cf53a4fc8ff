/** Sends a planned update of a copy, and finds out what keeps the guest from taking it. */

import { printable } from '../../../core/channel/close.ts';
import { BangerError } from '../../../core/errors.ts';
import { SHIPPED_REF } from '../../../core/model/workspace.ts';
import { ArchiveBlocked, ArchiveConflicts } from '../../../guest/archive/transfer.ts';
import { type BytePath, bytesOf, displayPath } from '../../../workspace/byte-path.ts';
import type { GitFile } from '../../../workspace/guest-git.ts';
import type { GuestRepo } from '../../../workspace/guest-git-runner.ts';
import { findObstacles, type Obstacle } from '../../../workspace/guest-obstacles.ts';
import { withGuestTree } from '../../../workspace/guest-tree.ts';
import type { ShippedRecord } from '../../../workspace/shipped-record.ts';
import { isSameEntry } from '../../../workspace/tree-change.ts';
import type { UpdatePlan } from '../../../workspace/update-plan.ts';
import { updateRecords } from '../../../workspace/update-records.ts';
import type { UpdateJob } from './update-job.ts';
import { archiveInto } from './workspace-service.ts';

export interface PlannedUpdate
  extends Pick<UpdateJob, 'vmName' | 'workspace' | 'agent' | 'force' | 'saved' | 'signal' | 'onProgress'> {
  readonly plan: UpdatePlan;
  readonly last: ShippedRecord | undefined;
  readonly gitFiles: Promise<readonly GitFile[]>;
  /** HEAD is moved afterwards: only then the guest has it all. */
  readonly movesHead: boolean;
  readonly repo: GuestRepo;
}

/** What was found in the guest where the update is to be written. */
interface Findings {
  /** Paths that it has made what they are to be. */
  readonly same: ReadonlySet<BytePath>;
  /** Paths that it has written anew, as they were shipped: `git checkout` does that. */
  readonly asShipped: ReadonlySet<BytePath>;
  /** What stands in the way there, and may go. */
  readonly obstacles: readonly BytePath[];
  /** What stands in the way, and may not. */
  readonly guarded: readonly BytePath[];
}

/** A guest that goes on changing its files is not followed for ever. */
const MAX_LOOKS = 4;
const MAX_NAMED = 5;
const SHIPPED_PATH = bytesOf(`.git/${SHIPPED_REF}`);

/**
 * @throws {ArchiveConflicts} the guest has changed what is to be written, or `isAboutShipped`; nothing was written then
 * @throws {BangerError} `invalid_state`: it has changed it meanwhile, and some of it was written; and what the transfer throws
 */
export async function sendUpdate(update: PlannedUpdate): Promise<void> {
  const { plan, repo, saved } = update;
  let findings: Findings = { same: new Set(), asShipped: new Set(), obstacles: [], guarded: [] };
  // What goes with a directory must be saved: that is known before anything is written.
  if (saved !== undefined && saved.size > 0)
    findings = { ...findings, ...sorted(await findObstacles(repo, plan.changes), saved) };
  let isBegun = false;
  for (let looks = 0; ; looks += 1) {
    try {
      await send(update, findings);
      return;
    } catch (error) {
      isBegun ||= error instanceof ArchiveBlocked;
      const found = looks === MAX_LOOKS ? undefined : await lookAgain(update, findings, error);
      if (found === undefined) throw isBegun ? asOverwrites(error, update.vmName) : error;
      findings = found;
    }
  }
}

/** For people; what is no conflict of files stays as it is. */
export function asOverwrites(error: unknown, vmName: string): unknown {
  if (!(error instanceof ArchiveConflicts) || isAboutShipped(error)) return error;
  return overwrites(
    vmName,
    error.conflicts.map(({ path }) => path.toString('latin1')),
  );
}

/** The guest holds what another shipping than the last one that is known of has brought. */
export function isAboutShipped(error: unknown): boolean {
  return error instanceof ArchiveConflicts && error.conflicts.some(({ path }) => path.equals(SHIPPED_PATH));
}

export function waysOut(vmName: string): string {
  return `banger vm workspace status ${vmName} shows both sides; to keep the VM's as a patch and overwrite it: banger vm workspace prepare ${vmName} --save-patch changes.patch (--force overwrites it without)`;
}

/** What is the same there is sent all the same: it counts as shipped from then on. */
async function send(update: PlannedUpdate, { same, asShipped, obstacles, guarded }: Findings): Promise<void> {
  const { plan, last, force, saved, workspace, agent, gitFiles, movesHead, signal, onProgress } = update;
  const paths = plan.changes.map(({ path }) => path);
  const at = (places: readonly BytePath[]): readonly BytePath[] =>
    paths.filter((path) => places.some((place) => path === place || path.startsWith(`${place}/`)));
  const unchecked = new Set(force ? (saved ?? paths) : []);
  if (saved !== undefined) for (const path of at(obstacles)) unchecked.add(path);
  for (const path of at(guarded)) unchecked.delete(path);
  let done = 0;
  const records = updateRecords({
    rootPath: plan.rootPath,
    changes: plan.changes.filter(({ path, to }) => to !== null || !same.has(path)),
    obstacles,
    shippedBefore: force && saved === undefined ? undefined : last?.commit,
    shippedNow: movesHead ? undefined : plan.shipped.commit,
    unchecked: new Set([...unchecked, ...same, ...asShipped]),
    gitFiles,
    onFile: () => onProgress(++done, plan.changes.length),
  });
  await agent.unpack(archiveInto(workspace), records, signal);
}

/** Undefined: nothing was found that helps. */
async function lookAgain(
  update: PlannedUpdate,
  findings: Findings,
  error: unknown,
): Promise<Findings | undefined> {
  const { repo, plan, force, saved, vmName } = update;
  if (error instanceof ArchiveBlocked && findings.obstacles.length === 0) {
    const found = await findObstacles(repo, plan.changes);
    if (found.length === 0) return undefined;
    if (force && saved === undefined) return { ...findings, obstacles: found.map(({ path }) => path) };
    const lost = found.flatMap(({ files }) => files);
    if (lost.length > 0) throw overwrites(vmName, lost);
    return { ...findings, obstacles: found.map(({ path }) => path) };
  }
  if (!(error instanceof ArchiveConflicts) || isAboutShipped(error)) return undefined;
  const found = await unchangedInGuest(update);
  const isMore = found.same.size > findings.same.size || found.asShipped.size > findings.asShipped.size;
  return isMore ? { ...findings, ...found } : undefined;
}

async function unchangedInGuest({
  plan,
  last,
  repo,
  workspace,
}: PlannedUpdate): Promise<Pick<Findings, 'same' | 'asShipped'>> {
  const options = {
    ...repo,
    base: last?.commit ?? 'HEAD',
    hasSubmodules: workspace.mode === 'full_copy',
  };
  const entries = await withGuestTree(options, (tree) => tree.entries());
  const same = new Set<BytePath>();
  const asShipped = new Set<BytePath>();
  for (const { path, from, to } of plan.changes) {
    const there = entries.get(path);
    if (isSameEntry(to, there)) same.add(path);
    else if (from !== null && isSameEntry(from, there)) asShipped.add(path);
  }
  return { same, asShipped };
}

/** With some of them goes what is not in the patch. */
function sorted(
  obstacles: readonly Obstacle[],
  saved: ReadonlySet<BytePath>,
): Pick<Findings, 'obstacles' | 'guarded'> {
  const isSaved = ({ files }: Obstacle): boolean => files.every((path) => saved.has(path));
  return {
    obstacles: obstacles.filter(isSaved).map(({ path }) => path),
    guarded: obstacles.filter((one) => !isSaved(one)).map(({ path }) => path),
  };
}

function overwrites(vmName: string, paths: readonly BytePath[]): BangerError {
  const named = paths.slice(0, MAX_NAMED).map((path) => printable(displayPath(path)));
  const left = paths.length - named.length;
  const list = left > 0 ? `${named.join(', ')} and ${left} more` : named.join(', ');
  return new BangerError('invalid_state', `changed both here and in VM "${vmName}": ${list}`, {
    hint: waysOut(vmName),
  });
}
