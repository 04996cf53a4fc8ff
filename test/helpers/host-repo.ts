/** Repositories of the host to plan and ship in tests, and what a guest would find in the image. */

import { createHash } from 'node:crypto';
import {
  appendFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { createRunner } from '../../src/host/runner.ts';
import { type PlanOptions, planWorkspace, type WorkspacePlanData } from '../../src/workspace/plan.ts';
import { buildWorkspaceImage } from '../../src/workspace/ship.ts';

process.env['GIT_CONFIG_GLOBAL'] = '/dev/null';
process.env['GIT_CONFIG_NOSYSTEM'] = '1';

export const runner = createRunner();
const IMAGE_BYTES = 2 ** 30;

export async function temporaryDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'banger-workspace-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** No look after each commit whether to repack, and no waiting for the disk: processes and time that no test is about. */
const SETTINGS = ['protocol.file.allow=always', 'maintenance.auto=false', 'core.fsync=none'].flatMap(
  (setting) => ['-c', setting],
);

export async function gitIn(dir: string, ...args: string[]): Promise<string> {
  const { stdout } = await runner.run(['git', '-C', dir, ...SETTINGS, ...args], {
    env: { GIT_AUTHOR_DATE: '2024-01-01T00:00:00Z', GIT_COMMITTER_DATE: '2024-01-01T00:00:00Z' },
  });
  return stdout.toString('latin1');
}

export interface TestRepo {
  readonly dir: string;
  git(...args: string[]): Promise<string>;
  write(path: string, content?: string | Uint8Array, mode?: number): void;
  commit(message?: string): Promise<string>;
}

export async function initRepo(dir: string, ...initArgs: string[]): Promise<TestRepo> {
  mkdirSync(dir, { recursive: true });
  await gitIn(dir, 'init', '--quiet', '--initial-branch=main', ...initArgs);
  // As git config would, which takes a process for each.
  appendFileSync(join(dir, '.git/config'), '[user]\n\tname = Test Person\n\temail = test@example.com\n');
  return repoAt(dir);
}

export function repoAt(dir: string): TestRepo {
  const git = (...args: string[]) => gitIn(dir, ...args);
  return {
    dir,
    git,
    write(path, content = `${path}\n`, mode = 0o644) {
      mkdirSync(dirname(join(dir, path)), { recursive: true });
      writeFileSync(join(dir, path), content, { mode });
    },
    async commit(message = 'a commit') {
      await git('add', '--all');
      await git('commit', '--quiet', '--allow-empty', '-m', message);
      return (await git('rev-parse', 'HEAD')).trim();
    },
  };
}

export async function smallRepo(t: TestContext): Promise<TestRepo> {
  const repo = await initRepo(join(await temporaryDir(t), 'repo'));
  repo.write('readme.md', 'hello\n');
  repo.write('src/main.ts', 'export {};\n');
  repo.write('run.sh', '#!/bin/sh\n', 0o755);
  await repo.commit('first');
  return repo;
}

export function plan(path: string, options: Partial<PlanOptions> = {}): Promise<WorkspacePlanData> {
  const signal = new AbortController().signal;
  return planWorkspace({ path, includeUntracked: false, runner, signal, ...options });
}

export async function emptyImage(dir: string, bytes = IMAGE_BYTES): Promise<string> {
  const path = join(dir, 'transfer.img');
  await using file = await open(path, 'w');
  await file.truncate(bytes);
  return path;
}

/** Ships a plan and unpacks the image as it is: times, modes and links kept. Returns the directory. */
export async function shipAndUnpack(t: TestContext, planned: WorkspacePlanData): Promise<string> {
  const dir = await temporaryDir(t);
  const imagePath = await emptyImage(dir);
  await buildWorkspaceImage({
    plan: planned,
    imagePath,
    scratchDir: join(dir, 'scratch'),
    runner,
    signal: new AbortController().signal,
    onProgress: () => {},
  });
  return unpack(imagePath, join(dir, 'guest'));
}

export async function unpack(imagePath: string, target: string): Promise<string> {
  await runner.run(['unsquashfs', '-quiet', '-no-progress', '-processors', '1', '-dest', target, imagePath]);
  return target;
}

/** Every file and link below a directory but those of `.git`: path in bytes → what it is. */
export function treeOf(dir: string): Map<string, string> {
  const found = new Map<string, string>();
  const walk = (path: string): void => {
    for (const name of readdirSync(below(dir, path), { encoding: 'buffer' })) {
      const child = path === '' ? name.toString('latin1') : `${path}/${name.toString('latin1')}`;
      if (child === '.git') continue;
      const full = below(dir, child);
      const stat = lstatSync(full);
      if (stat.isDirectory()) walk(child);
      else found.set(child, describe(full, stat.mode, Math.floor(stat.mtimeMs / 1000)));
    }
  };
  walk('');
  return found;
}

/** The same without times, in the order of the paths. */
export function contentsOf(dir: string): Map<string, string> {
  const found = [...treeOf(dir)].map(([path, what]): [string, string] => [path, what.replace(/ \d+$/, '')]);
  return new Map(found.toSorted(([one], [other]) => (one < other ? -1 : 1)));
}

/** `path` is in bytes, one to a character; `dir` is text. */
export function below(dir: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${dir}/`), Buffer.from(path, 'latin1')]);
}

function describe(path: Buffer, mode: number, mtimeSeconds: number): string {
  if ((mode & 0o170000) === 0o120000) {
    return `link ${readlinkSync(path, { encoding: 'buffer' }).toString('latin1')} ${mtimeSeconds}`;
  }
  const digest = createHash('sha256').update(readFileSync(path)).digest('hex');
  return `file ${(mode & 0o777).toString(8)} ${digest} ${mtimeSeconds}`;
}

/** What git says of the working tree, without writing its findings down. */
export function statusOf(dir: string): Promise<string> {
  return gitIn(dir, '--no-optional-locks', 'status', '--porcelain', '-z', '--untracked-files=all');
}
