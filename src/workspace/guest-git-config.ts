/** The configuration that the guest's copy of a repository gets: what decides how files look, who commits, where from. */

import { redactRemoteUrl } from './redact.ts';
import type { ObjectFormat } from './repo.ts';

/** Effective settings of the host's repository; of a name set twice, all values in git's order (the last one counts). */
export type GitSettings = ReadonlyMap<string, readonly string[]>;

/** Nothing else is carried: settings hold credentials, host paths and commands. */
const CARRIED_CORE = ['autocrlf', 'eol', 'symlinks', 'ignorecase'] as const;

/** Output of `git config -z --list`: `section.name\nvalue\0`; a name without a value has no line break. */
export function parseGitSettings(listing: Buffer): GitSettings {
  const settings = new Map<string, string[]>();
  for (const item of listing.toString('utf8').split('\0')) {
    if (item === '') continue;
    const end = item.indexOf('\n');
    const name = end < 0 ? item : item.slice(0, end);
    const values = settings.get(name) ?? [];
    values.push(end < 0 ? 'true' : item.slice(end + 1));
    settings.set(name, values);
  }
  return settings;
}

export interface GuestConfigFacts {
  readonly settings: GitSettings;
  readonly objectFormat: ObjectFormat;
  readonly partialClone: boolean;
  /** Where the files are, seen from the git directory; undefined: that is `.git` beside them. */
  readonly worktree?: string | undefined;
  readonly submodules?: readonly GuestSubmodule[] | undefined;
}

export interface GuestSubmodule {
  readonly name: string;
  /** Git works on it. */
  readonly isActive: boolean;
}

/** The text of the guest's `.git/config`. */
export function guestGitConfig(facts: GuestConfigFacts): string {
  const { settings, objectFormat, partialClone, worktree, submodules = [] } = facts;
  const extended = objectFormat !== 'sha1' || partialClone;
  const core: [string, string][] = [
    ['repositoryformatversion', extended ? '1' : '0'],
    ['filemode', last(settings, 'core.filemode') ?? 'true'],
    ['bare', 'false'],
    ['logallrefupdates', 'true'],
    // The index knows of each file what squashfs keeps: seconds and size. Inode and change time are the guest's own.
    ['checkStat', 'minimal'],
    ['trustctime', 'false'],
    // Looking at files from many threads makes squashfs read its few cached blocks again and again: 15 s for 5,000 files, not 1.
    ['preloadIndex', 'false'],
  ];
  for (const name of CARRIED_CORE) {
    const value = last(settings, `core.${name}`);
    if (value !== undefined) core.push([name, value]);
  }
  if (worktree !== undefined) core.push(['worktree', worktree]);
  const extensions: [string, string][] = [];
  if (objectFormat !== 'sha1') extensions.push(['objectFormat', objectFormat]);
  if (partialClone) extensions.push(['partialClone', 'origin']);
  const user: [string, string][] = [];
  for (const name of ['name', 'email']) {
    const value = last(settings, `user.${name}`);
    if (value !== undefined) user.push([name, value]);
  }
  return [
    section('core', core),
    section('extensions', extensions),
    section('user', user),
    section('remote "origin"', originSettings(settings, partialClone)),
    ...submodules.map((one) => section(`submodule ${inQuotes(one.name)}`, submoduleSettings(settings, one))),
  ].join('');
}

/** Not `update`, which may be a command. */
function submoduleSettings(settings: GitSettings, { name, isActive }: GuestSubmodule): [string, string][] {
  const url = redacted(last(settings, `submodule.${name}.url`));
  return [['active', String(isActive)], ...(url === undefined ? [] : [['url', url] as [string, string]])];
}

/** The remote named origin; without one, the first that has an address. */
function originSettings(settings: GitSettings, partialClone: boolean): [string, string][] {
  const remotes = [...settings.keys()].flatMap((key) => /^remote\.(.+)\.url$/s.exec(key)?.[1] ?? []);
  const remote = remotes.includes('origin') ? 'origin' : remotes[0];
  if (remote === undefined) return [];
  const url = redacted(settings.get(`remote.${remote}.url`)?.[0]);
  if (url === undefined) return [];
  const lines: [string, string][] = [
    ['url', url],
    ['fetch', '+refs/heads/*:refs/remotes/origin/*'],
  ];
  const pushUrl = redacted(settings.get(`remote.${remote}.pushurl`)?.[0]);
  if (pushUrl !== undefined) lines.push(['pushurl', pushUrl]);
  if (partialClone) {
    lines.push(['promisor', 'true']);
    lines.push(['partialclonefilter', last(settings, `remote.${remote}.partialclonefilter`) ?? 'blob:none']);
  }
  return lines;
}

function redacted(url: string | undefined): string | undefined {
  return url === undefined ? undefined : redactRemoteUrl(url);
}

function last(settings: GitSettings, name: string): string | undefined {
  return settings.get(name)?.at(-1);
}

function section(name: string, lines: readonly [string, string][]): string {
  if (lines.length === 0) return '';
  return `[${name}]\n${lines.map(([key, value]) => `\t${key} = ${quoted(value)}\n`).join('')}`;
}

/** git-config(1), "Values": everything but `"`, `\` and line breaks may stand in quotes as it is. */
function quoted(value: string): string {
  return /^[\w./:@+*~-]+$/.test(value) ? value : inQuotes(value);
}

function inQuotes(value: string): string {
  const escaped = value
    .replaceAll('\\', '\\\\')
    .replaceAll('"', '\\"')
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '');
  return `"${escaped}"`;
}
