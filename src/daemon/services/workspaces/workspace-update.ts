/** Brings the copy in a running guest up to what the host's repository is now, sending only what differs. */

import { BangerError } from '../../../core/errors.ts';
import { SHIPPED_REF } from '../../../core/model/workspace.ts';
import { ArchiveConflicts } from '../../../guest/archive/transfer.ts';
import type { BytePath } from '../../../workspace/byte-path.ts';
import { hostGit, type HostGit } from '../../../workspace/git.ts';
import type { GitFile } from '../../../workspace/guest-git.ts';
import { listUntracked } from '../../../workspace/plan.ts';
import { repoState, type RepoState } from '../../../workspace/repo-state.ts';
import {
  begunAfter,
  lastShipped,
  readSentPaths,
  readShippedRecords,
  recordShipping,
  type ShippedRecord,
} from '../../../workspace/shipped-record.ts';
import { GuestRepository } from '../../../workspace/guest-repository.ts';
import type { GuestRepo } from '../../../workspace/guest-git-runner.ts';
import type { TreeChange } from '../../../workspace/tree-change.ts';
import { type HeadFiles, headOfUpdate, objectsOfUpdate } from '../../../workspace/update-git.ts';
import {
  assertNoSubmodules,
  type NextState,
  nextState,
  planAnew,
  planUpdate,
  type UpdatePlan,
  withUnsettled,
} from '../../../workspace/update-plan.ts';
import { withoutVanished } from '../../../workspace/update-records.ts';
import { guestPrograms } from '../guests/guest-programs.ts';
import type { UpdateJob, UpdateOutcome } from './update-job.ts';
import { type UpdateDeps, withScratch } from './update-scratch.ts';
import {
  assertHeadAsShipped,
  type HeadMove,
  headRecords,
  keptCommits,
  lookAtHead,
  makeRoom,
  movedMeanwhile,
} from './head-move.ts';
import { asOverwrites, isAboutShipped, sendUpdate } from './update-sending.ts';
import { archiveInto } from './workspace-service.ts';

/**
 * @throws {BangerError} `invalid_state`: the guest has changed what is to be written, and `force` was not given; nothing has been
 *   written then. What git and the transfer throw
 */
export async function updateWorkspace(deps: UpdateDeps, job: UpdateJob): Promise<UpdateOutcome> {
  return await withScratch(deps, (scratch) => new Update(deps, job, scratch).run());
}

/**
 * What was changed in the repository since the copy was made of it; nothing is asked of the guest.
 * @throws {BangerError} `invalid_state`, `not_found`: what was shipped is not known any more
 */
export async function compareWithHost(
  deps: UpdateDeps,
  {
    workspace,
    shippedFile,
    shippedIndex,
    signal,
  }: Pick<UpdateJob, 'workspace' | 'shippedFile' | 'shippedIndex' | 'signal'>,
): Promise<readonly TreeChange[]> {
  return await withScratch(deps, async (scratch) => {
    const git = hostGit(deps.runner, workspace.sourcePath, signal);
    const [repo, records] = await Promise.all([
      repoState(git, workspace.sourcePath),
      readShippedRecords(shippedFile),
    ]);
    const last = lastShipped(workspace, records);
    if (last === undefined) throw new BangerError('invalid_state', 'what was shipped is not known any more');
    const untracked = await untrackedFiles(git, workspace.includeUntracked);
    const next = await nextState(git, repo, { ...workspace, untracked }, last, shippedIndex, scratch);
    const { changes } = await planUpdate(git, last, next);
    return withoutVanished(next.rootPath, changes);
  });
}

async function untrackedFiles(git: HostGit, areWanted: boolean): Promise<readonly BytePath[]> {
  return areWanted ? (await listUntracked(git)).filter((path) => !path.endsWith('/')) : [];
}

class Update {
  readonly #job: UpdateJob;
  readonly #git: HostGit;
  readonly #scratch: string;
  readonly #guestRepo: GuestRepo;
  readonly #copy: GuestRepository;

  constructor(deps: UpdateDeps, job: UpdateJob, scratch: string) {
    this.#job = job;
    this.#git = hostGit(deps.runner, job.workspace.sourcePath, job.signal);
    this.#scratch = scratch;
    const { workspace, agent, signal } = job;
    this.#guestRepo = { path: workspace.guestPath, programs: guestPrograms(agent), signal };
    this.#copy = new GuestRepository(this.#guestRepo, job.gitDir);
  }

  async run(): Promise<UpdateOutcome> {
    const { workspace, asked, shippedFile, shippedIndex } = this.#job;
    const [repo, records] = await Promise.all([
      repoState(this.#git, workspace.sourcePath),
      readShippedRecords(shippedFile),
    ]);
    const last = lastShipped(workspace, records);
    const untracked = await untrackedFiles(this.#git, asked.includeUntracked);
    const next = await nextState(this.#git, repo, { ...asked, untracked }, last, shippedIndex, this.#scratch);
    try {
      try {
        return await this.#bring(repo, last, next, records);
      } catch (error) {
        const other = await this.#whatElse(error, records);
        return await this.#bring(repo, other, next, records);
      }
    } catch (error) {
      throw asOverwrites(error, this.#job.vmName);
    }
  }

  /** The guest may hold what a shipping brought that was cut off before anyone heard of its end. */
  async #whatElse(error: unknown, records: readonly ShippedRecord[]): Promise<ShippedRecord | undefined> {
    if (!isAboutShipped(error)) throw error;
    let commit = await this.#copy.shippedCommit(SHIPPED_REF);
    if (commit === undefined) {
      await this.#job.mountAgain();
      commit = await this.#copy.shippedCommit(SHIPPED_REF);
    }
    return records.find((record) => record.commit === commit);
  }

  async #bring(
    repo: RepoState,
    last: ShippedRecord | undefined,
    next: NextState,
    records: readonly ShippedRecord[],
  ): Promise<UpdateOutcome> {
    const { force, dryRun, asked, onShipped } = this.#job;
    const planned = await this.#unsettled(repo, await this.#plan(repo, last, next), last, records);
    if (this.#job.workspace.mode !== 'full_copy') assertNoSubmodules(planned.changes);
    const plan = { ...planned, changes: withoutVanished(next.rootPath, planned.changes) };
    const { headCommit } = next.shipped;
    const outcome = { headCommit, changes: plan.changes, movesHead: plan.movesHead };
    const isSame = plan.changes.length === 0 && !plan.movesHead;
    if (dryRun) return outcome;
    if (isSame && force) await this.#assertThere();
    const move = plan.movesHead ? await this.#lookAtHead(next.shipped) : undefined;
    if (move !== undefined && !force) assertHeadAsShipped(move, last, records, this.#job.vmName);
    await recordShipping(this.#job, next.shipped, records, {
      send: isSame ? undefined : () => this.#sendKept(repo, plan, last, move),
      onShipped,
      indexPath: asked.includeUntracked ? undefined : next.seenIndexPath,
    });
    return outcome;
  }

  async #plan(repo: RepoState, last: ShippedRecord | undefined, next: NextState): Promise<UpdatePlan> {
    if (last !== undefined) {
      try {
        return await planUpdate(this.#git, last, next);
      } catch (error) {
        const isGone = error instanceof BangerError && error.code === 'not_found';
        if (!isGone || !this.#job.force) throw error;
      }
    } else if (!this.#job.force) {
      throw new BangerError(
        'invalid_state',
        `what was shipped to VM "${this.#job.vmName}" is not known any more`,
        {
          hint: `keep what was changed there as a patch and make the copy anew: banger vm workspace prepare ${this.#job.vmName} --save-patch changes.patch`,
        },
      );
    }
    return await planAnew(this.#git, repo, next, this.#scratch);
  }

  async #unsettled(
    repo: RepoState,
    plan: UpdatePlan,
    last: ShippedRecord | undefined,
    records: readonly ShippedRecord[],
  ): Promise<UpdatePlan> {
    if (last === undefined) return plan;
    const begun = begunAfter(last, records);
    const sent = await readSentPaths(this.#job.sentFile);
    return await withUnsettled(this.#git, repo, plan, last, { begun, sent }, this.#scratch);
  }

  async #assertThere(): Promise<void> {
    if ((await this.#copy.shippedCommit(SHIPPED_REF)) !== undefined) return;
    await this.#placed(async () => {
      if ((await this.#copy.shippedCommit(SHIPPED_REF)) === undefined)
        throw new BangerError('guest_failed', `${SHIPPED_REF} is not there`);
    });
  }

  /** A daemon that was killed may not have come to placing the copy. */
  async #lookAtHead(to: ShippedRecord): Promise<HeadMove> {
    try {
      return await lookAtHead(this.#git, this.#copy, to);
    } catch (error) {
      if (!(error instanceof BangerError) || error.code !== 'guest_failed') throw error;
      return await this.#placed(() => lookAtHead(this.#git, this.#copy, to));
    }
  }

  /** Puts the copy in its place, where it is not. @throws {BangerError} `invalid_state`: there is nothing to put there */
  async #placed<T>(look: () => Promise<T>): Promise<T> {
    const { mountAgain, vmName, workspace } = this.#job;
    try {
      await mountAgain();
      return await look();
    } catch (cause) {
      if (!(cause instanceof BangerError) || cause.code !== 'guest_failed') throw cause;
      const place = workspace.guestPath;
      const message = `there is no usable repository at ${place} in VM "${vmName}" any more: ${cause.message}`;
      throw new BangerError('invalid_state', message, {
        hint: `its files can be fetched: banger vm cp ${vmName}:${place} DIRECTORY; a new copy is made in another VM: banger vm run ${workspace.sourcePath}`,
        cause,
      });
    }
  }

  /** What is said to be in the guest stays there when it loses its power. */
  async #sendKept(
    repo: RepoState,
    plan: UpdatePlan,
    last: ShippedRecord | undefined,
    move: HeadMove | undefined,
  ): Promise<void> {
    const whole = this.#job.workspace.mode === 'full_copy' ? { known: last?.headCommit } : undefined;
    const facts = { repo, plan, scratchDir: this.#scratch, whole };
    const files: Promise<HeadFiles> =
      move === undefined
        ? objectsOfUpdate(this.#git, facts).then((objects) => ({ objects, head: [] }))
        : headOfUpdate(this.#git, facts, move.head);
    const gitFiles = files.then(({ objects }) => [...objects, ...this.#kept(move, last)]);
    gitFiles.catch(() => undefined);
    try {
      const update = { ...this.#job, plan, last, gitFiles, repo: this.#guestRepo };
      await sendUpdate({ ...update, movesHead: move !== undefined });
      if (move !== undefined && !this.#job.isTrial)
        await this.#moveHead(move, (await files).head, plan.shipped);
    } finally {
      await gitFiles.catch(() => undefined);
    }
    await this.#job.agent.sync(this.#job.signal);
  }

  async #moveHead(move: HeadMove, files: readonly GitFile[], shipped: ShippedRecord): Promise<void> {
    const { agent, workspace, signal, vmName } = this.#job;
    const seen = await makeRoom(this.#copy, move, shipped.branch);
    try {
      await agent.unpack(archiveInto(workspace), headRecords(seen, files, shipped.commit), signal);
    } catch (error) {
      throw error instanceof ArchiveConflicts ? movedMeanwhile(vmName) : error;
    }
  }

  /** What the guest's HEAD and the branches that are replaced named. */
  #kept(move: HeadMove | undefined, last: ShippedRecord | undefined): readonly GitFile[] {
    if (move === undefined) return [];
    const { head, lost } = move;
    const commits = lost.map(({ commit }) => commit);
    return keptCommits(head.commit === last?.headCommit ? commits : [head.commit, ...commits]);
  }
}
