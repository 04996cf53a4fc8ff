/**
 * The quick way to bring a copy up to date: what has changed is sent at once, and written down once whoever asked has the answer.
 * Until then the guest's files are newer than what is known of them, as after a shipping that was cut off: the next one goes on
 * from there.
 */

import type { Stats } from 'node:fs';
import { rm } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { TOOL_FILES } from '../../../core/toolingplan/model.ts';
import type { ArchiveRecord } from '../../../guest/archive/records.ts';
import { ArchiveBlocked, ArchiveConflicts } from '../../../guest/archive/transfer.ts';
import { isThere } from '../../../host/files.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import type { BytePath } from '../../../workspace/byte-path.ts';
import { hostGit } from '../../../workspace/git.ts';
import type { KnownRepos } from '../../../workspace/known-repos.ts';
import { commitSent, type QuickLook, quickLook, type SentFiles } from '../../../workspace/quick-look.ts';
import { workingTreeIndexPath } from '../../../workspace/shipped-commit.ts';
import {
  begunAfter,
  lastShipped,
  noteSentPaths,
  readSentPaths,
  readShippedRecords,
  recordShipping,
  type ShippedRecord,
} from '../../../workspace/shipped-record.ts';
import { objectsOfUpdate } from '../../../workspace/update-git.ts';
import { composed } from '../../../workspace/update-plan.ts';
import { checkRecords, fileRecords, shippedCheck, updateRecords } from '../../../workspace/update-records.ts';
import { type UpdateDeps, withScratch } from './update-scratch.ts';
import { archiveInto } from './workspace-service.ts';
import { type CopyJob, rowAfter } from './submodule-updates.ts';

export type QuickJob = Pick<
  CopyJob,
  'workspace' | 'asked' | 'agent' | 'shippedFile' | 'shippedIndex' | 'sentFile' | 'signal'
>;

/** Sent, and not written down yet. */
export interface SentUpdate {
  readonly look: QuickLook;
  readonly sent: SentFiles;
  readonly last: ShippedRecord;
  readonly records: readonly ShippedRecord[];
}

const TOOL_FILE_NAMES: ReadonlySet<string> = new Set(TOOL_FILES);
/** Thrown where the records of an archive begin: nothing has been sent then. */
const NEEDS_MORE = new Error('the quick way does not do');

/**
 * Undefined: it takes the long way, which also says what is wrong. Nothing was changed in the guest then.
 * @throws {BangerError} what the transfer throws, and reading the files
 */
export async function sendTouched(
  { runner, repos }: { readonly runner: CommandRunner; readonly repos: KnownRepos },
  job: QuickJob,
): Promise<SentUpdate | undefined> {
  const { workspace, asked, agent, shippedFile, shippedIndex, sentFile, signal } = job;
  const { sourcePath } = workspace;
  const records = await readShippedRecords(shippedFile);
  const last = lastShipped(workspace, records);
  const isPlain = asked.from === null && !asked.includeUntracked && workspace.submodules.length === 0;
  if (last === undefined || !isPlain) return undefined;
  if (begunAfter(last, records).length > 0 || !(await isThere(shippedIndex))) return undefined;
  const git = hostGit(runner, sourcePath, signal);
  const look = async (): Promise<QuickLook | undefined> => {
    // Starting a program holds everything up: first the guest is told to get ready.
    await setImmediate();
    const found = await quickLook(git, repos, sourcePath, last, shippedIndex).catch(() => undefined);
    // Which tools are wanted may have changed with these.
    const changesTools = found?.changes.some(({ path }) => TOOL_FILE_NAMES.has(path)) === true;
    return (asked.branch ?? found?.repo.branch) === last.branch && !changesTools ? found : undefined;
  };
  const looking = look();
  const sent = new Map<BytePath, Stats>();
  const before = await readSentPaths(sentFile);
  try {
    await agent.unpack(
      archiveInto(workspace),
      touchedRecords(looking, { sentFile, before }, last, sent),
      signal,
    );
  } catch (error) {
    // What came before that in the archive is noted as sent: the long way sends it again.
    if (error === NEEDS_MORE || error instanceof ArchiveBlocked) return undefined;
    if (!(error instanceof ArchiveConflicts)) throw error;
    // What the guest refused it has nothing of.
    if (before.length === 0) await rm(sentFile, { force: true });
    else await noteSentPaths(sentFile, before);
    return undefined;
  }
  const found = await looking;
  return found && { look: found, sent, last, records };
}

async function* touchedRecords(
  looking: Promise<QuickLook | undefined>,
  { sentFile, before }: { readonly sentFile: string; readonly before: readonly BytePath[] },
  last: ShippedRecord,
  sent: Map<BytePath, Stats>,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  yield shippedCheck(last.commit);
  const look = await looking;
  if (look === undefined) throw NEEDS_MORE;
  const { changes, repo } = look;
  yield* checkRecords(changes);
  if (changes.length > 0)
    await noteSentPaths(sentFile, [...new Set([...before, ...changes.map(({ path }) => path)])]);
  yield* fileRecords({ rootPath: repo.topLevel, changes, onFile: (path, stat) => sent.set(path, stat) });
}

/**
 * Writes down what was sent: git's objects into the guest, then the row and the records.
 * @returns false: a file has changed again since it was sent. The next shipping does it
 */
export async function settleSent(
  deps: UpdateDeps,
  job: QuickJob & Pick<CopyJob, 'onRow'>,
  { look, sent, last, records }: SentUpdate,
): Promise<boolean> {
  const { workspace, agent, shippedIndex, signal, onRow } = job;
  const { repo } = look;
  return await withScratch(deps, async (scratchDir) => {
    const git = hostGit(deps.runner, workspace.sourcePath, signal);
    const tree = await commitSent(git, look, sent, shippedIndex, scratchDir);
    if (tree === undefined) return false;
    const shipped = { ...last, ...tree };
    const plan = { shipped, changes: composed(last.changes, [], tree.changes) };
    const gitFiles = objectsOfUpdate(git, { repo, plan, scratchDir });
    gitFiles.catch(() => undefined);
    const content = updateRecords({
      ...{ rootPath: repo.topLevel, changes: [], unchecked: new Set(), onFile: () => undefined },
      ...{ shippedBefore: last.commit, shippedNow: shipped.commit, gitFiles },
    });
    const keep = async (): Promise<void> => {
      if (shipped.commit !== last.commit) await agent.unpack(archiveInto(workspace), content, signal);
      await agent.sync(signal);
    };
    await recordShipping(job, shipped, records, {
      send: look.changes.length === 0 ? undefined : keep,
      onShipped: (done) => onRow(rowAfter(workspace, job, undefined, done)),
      indexPath: workingTreeIndexPath(scratchDir),
    });
    return true;
  });
}
