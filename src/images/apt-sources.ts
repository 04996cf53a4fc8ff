/**
 * Where Debian packages come from: the host's own mirrors when the host is the same Debian release, else Debian's.
 * Whatever the mirror, only what Debian's archive keys signed is accepted.
 */

import { access, readFile } from 'node:fs/promises';
import { BangerError } from '../core/errors.ts';
import type { CommandRunner } from '../host/runner.ts';

export interface AptSource {
  readonly uri: string;
  readonly suite: string;
  readonly component: string;
}

export const DEBIAN_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const MIRROR = 'http://deb.debian.org/debian';
const SECURITY_MIRROR = 'http://deb.debian.org/debian-security';
const COMPONENT = 'main';
const TIMEOUT_MS = 30_000;

/** The three suites of a release: the release itself, its updates and its security fixes. */
function suitesOf(release: string): readonly string[] {
  return [release, `${release}-updates`, `${release}-security`];
}

export function defaultSources(release: string): readonly AptSource[] {
  return suitesOf(release).map((suite) => ({
    uri: suite.endsWith('-security') ? SECURITY_MIRROR : MIRROR,
    suite,
    component: COMPONENT,
  }));
}

/**
 * The sources for a Debian release.
 * @throws {BangerError} `dependency_missing` when apt or Debian's keys are not installed
 */
export async function findSources(
  release: string,
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<readonly AptSource[]> {
  await requireKeyring();
  const osRelease = await readFile('/etc/os-release', 'utf8').catch(() => '');
  if (!isRelease(osRelease, release)) return defaultSources(release);
  const result = await runner.run(
    ['apt-get', 'indextargets', '--format', '$(REPO_URI) $(RELEASE) $(COMPONENT)', 'Created-By: Packages'],
    { signal, timeoutMs: TIMEOUT_MS, env: { LC_ALL: 'C' } },
  );
  return completeSources(release, parseIndexTargets(result.stdout.toString('utf8')));
}

/** Parses the lines `uri release component` that `apt-get indextargets` was asked for; keeps what a builder may use. */
export function parseIndexTargets(text: string): readonly AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split('\n')) {
    const [uri = '', suite = '', component = ''] = line.split(' ');
    // A file: or cdrom: source cannot be reached from a private apt root or the guest, and a password must not get into an image.
    if (!/^https?:\/\/[^@\s]+$/.test(uri) || component !== COMPONENT) continue;
    sources.push({ uri: uri.replace(/\/+$/, ''), suite, component });
  }
  return sources;
}

/** The host's source for each suite of the release, and Debian's own where the host has none. Each suite once. */
export function completeSources(release: string, found: readonly AptSource[]): readonly AptSource[] {
  return defaultSources(release).map(
    (fallback) => found.find(({ suite }) => suite === fallback.suite) ?? fallback,
  );
}

/** sources.list(5), deb822 style. `targets` leaves out translations and everything other programs configured apt to fetch. */
export function formatSources(
  sources: readonly AptSource[],
  options: { readonly indexOnly: boolean },
): string {
  return sources
    .map(({ uri, suite, component }) => {
      const lines = [`Types: deb`, `URIs: ${uri}`, `Suites: ${suite}`, `Components: ${component}`];
      lines.push(`Signed-By: ${DEBIAN_KEYRING}`);
      if (options.indexOnly) lines.push('Targets: Packages', 'Languages: none');
      return `${lines.join('\n')}\n`;
    })
    .join('\n');
}

export function isRelease(osRelease: string, release: string): boolean {
  const value = (key: string) => new RegExp(`^${key}="?([^"\n]*)"?$`, 'm').exec(osRelease)?.[1];
  return value('ID') === 'debian' && value('VERSION_CODENAME') === release;
}

async function requireKeyring(): Promise<void> {
  try {
    await access(DEBIAN_KEYRING);
  } catch (cause) {
    throw new BangerError(
      'dependency_missing',
      `Debian's archive keys are not installed (${DEBIAN_KEYRING})`,
      {
        hint: 'sudo apt-get install debian-archive-keyring',
        cause,
      },
    );
  }
}
