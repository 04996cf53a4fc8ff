/** Reads the files in which a repository says what tools it wants: those that are shipped, as they are shipped. */

import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import type { SourcedWorkspace } from '../core/model/workspace.ts';
import { MAX_TOOL_FILE_BYTES, TOOL_FILES, type ToolFile } from '../core/toolingplan/model.ts';
import { readTextFile } from '../host/files.ts';
import type { CommandRunner } from '../host/runner.ts';
import { hostGit } from './git.ts';
import type { WorkspacePlanData } from './plan.ts';
import { resolveCommit } from './repo-state.ts';

type ToolSource = Pick<WorkspacePlanData, 'displayPaths' | 'sourcePath' | 'headCommit'> & {
  readonly source: Pick<WorkspacePlanData['source'], 'kind'>;
};

const NAMES: ReadonlySet<string> = new Set(TOOL_FILES);

/**
 * Only at the top of the repository. One that cannot be read is left out: shipping says so.
 * @throws {BangerError} `cancelled`
 */
export async function readToolFiles(
  plan: ToolSource,
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<readonly ToolFile[]> {
  const there = plan.displayPaths.filter((path) => NAMES.has(path));
  const read =
    plan.source.kind === 'working-tree'
      ? (file: string) => readTextFile(join(plan.sourcePath, file), MAX_TOOL_FILE_BYTES)
      : async (file: string) => {
          const git = hostGit(runner, plan.sourcePath, signal);
          const args = ['cat-file', 'blob', `${plan.headCommit}:${file}`];
          return (await git.run(args, { maxOutputBytes: MAX_TOOL_FILE_BYTES })).stdout.toString('utf8');
        };
  const files = await Promise.all(
    there.map(async (file): Promise<ToolFile | undefined> => {
      try {
        const text = await read(file);
        return text === undefined ? undefined : { file, text };
      } catch (error) {
        if (!(error instanceof BangerError) || error.code === 'cancelled') throw error;
        return error.code === 'limit_exceeded' ? { file, text: null } : undefined;
      }
    }),
  );
  return files.filter((file) => file !== undefined);
}

/** Those of a repository that is shipped again, as it is now. @throws {BangerError} `cancelled`, what git throws */
export async function readToolFilesNow(
  { sourcePath, from, includeUntracked }: Pick<SourcedWorkspace, 'sourcePath' | 'from' | 'includeUntracked'>,
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<readonly ToolFile[]> {
  const git = hostGit(runner, sourcePath, signal);
  const head = from === null ? undefined : await resolveCommit(git, 'HEAD');
  const commit = from === null ? undefined : await resolveCommit(git, from);
  const isCommit = commit !== undefined && commit !== head;
  const others = includeUntracked ? ['--others', '--exclude-standard'] : [];
  const listed = await git.run(
    isCommit
      ? ['ls-tree', '-z', '--name-only', commit, '--', ...TOOL_FILES]
      : ['ls-files', '-z', '--cached', ...others, '--', ...TOOL_FILES],
  );
  const displayPaths = [...new Set(listed.stdout.toString('utf8').split('\0'))];
  const source = { kind: isCommit ? 'commit' : 'working-tree' } as const;
  return await readToolFiles({ displayPaths, source, sourcePath, headCommit: commit ?? '' }, runner, signal);
}
