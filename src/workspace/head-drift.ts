/** How far the host's repository has gone on since a copy was made of it. */

import type { HostGit } from './git.ts';

/** As api/contract.ts has it. */
export interface HeadDrift {
  readonly recorded: string;
  readonly current: string;
  readonly subject: string;
  readonly behind: number | null;
  readonly ahead: number | null;
}

const MAX_SUBJECT_LENGTH = 72;

/**
 * Null: the copy is at the commit that would be shipped.
 * @param from the commit that was asked for; null: HEAD
 * @throws {BangerError} as `HostGit.run`: the repository is gone, or damaged
 */
export async function headDrift(
  git: HostGit,
  recorded: string,
  from: string | null,
): Promise<HeadDrift | null> {
  const found = await git.run([
    'rev-parse',
    '--verify',
    '--quiet',
    '--end-of-options',
    `${from ?? 'HEAD'}^{commit}`,
  ]);
  const current = found.stdout.toString('latin1').trim();
  if (current === recorded) return null;
  const [counted, described] = await Promise.all([
    git.run(['rev-list', '--left-right', '--count', `${recorded}...${current}`], { okStatuses: [0, 128] }),
    git.run(['log', '-1', '--no-show-signature', '--format=%s', current]),
  ]);
  const counts = /^(\d+)\t(\d+)\n$/.exec(counted.stdout.toString('latin1'));
  const count = (text: string | undefined): number | null => (text === undefined ? null : Number(text));
  return {
    recorded,
    current,
    subject: oneLine(described.stdout.toString('utf8')),
    behind: count(counts?.[2]),
    ahead: count(counts?.[1]),
  };
}

function oneLine(text: string): string {
  // It goes to a terminal.
  const line = text.trim().replaceAll(/[\p{Cc}\p{Cf}]/gu, '?');
  return line.length > MAX_SUBJECT_LENGTH ? `${line.slice(0, MAX_SUBJECT_LENGTH - 1)}…` : line;
}
