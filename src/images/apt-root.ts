/**
 * A private apt: its own sources, lists, caches and package state below one directory, so that it needs no root and
 * leaves the host's apt alone. The host's proxies and other transport settings still count (apt.conf(5): the file given
 * with -c is read after the host's, so it wins where both speak).
 */

import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errorText } from '../core/errors.ts';
import type { CommandRunner } from '../host/runner.ts';
import { asNoSpace, isNoSpaceText } from './no-space.ts';
import { type AptSource, formatSources } from './apt-sources.ts';
import type { OnImageProgress } from './progress.ts';

export interface AptRootOptions {
  /** Absolute, existing, ours alone. */
  readonly dir: string;
  readonly sources: readonly AptSource[];
  readonly arch: 'amd64' | 'arm64';
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
  readonly onProgress: OnImageProgress;
}

export interface AptRoot {
  /** `apt-get update`, signatures checked. */
  update(): Promise<void>;
  /** One field of the newest version's record; undefined when there is no such package or field. */
  field(packageName: string, field: string): Promise<string | undefined>;
  /** Downloads and verifies one package; `version` as in its record. @returns path of the .deb */
  download(packageName: string, version: string): Promise<string>;
}

const TIMEOUT_MS = 20 * 60_000;
const PACKAGE_NAME = /^[a-z0-9][a-z0-9.+-]{1,127}$/;

export async function createAptRoot(options: AptRootOptions): Promise<AptRoot> {
  const { dir } = options;
  for (const sub of ['sources', 'state/lists/partial', 'cache/archives/partial', 'downloads']) {
    await mkdir(join(dir, sub), { recursive: true });
  }
  await writeFile(
    join(dir, 'sources', 'debian.sources'),
    formatSources(options.sources, { indexOnly: true }),
  );
  await writeFile(join(dir, 'state', 'status'), '');
  const configPath = join(dir, 'apt.conf');
  await writeFile(configPath, formatConfig(dir, options.arch));
  return {
    update: () => update(options, configPath),
    field: (packageName, field) => readField(options, configPath, packageName, field),
    download: (packageName, version) => download(options, configPath, packageName, version),
  };
}

function formatConfig(dir: string, arch: string): string {
  const settings: Record<string, string> = {
    'Dir::Etc::sourcelist': '/dev/null',
    'Dir::Etc::sourceparts': join(dir, 'sources'),
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::State': join(dir, 'state'),
    'Dir::State::lists': join(dir, 'state', 'lists'),
    'Dir::State::status': join(dir, 'state', 'status'),
    'Dir::Cache': join(dir, 'cache'),
    'Dir::Cache::archives': join(dir, 'cache', 'archives'),
    'APT::Architecture': arch,
    // As root apt would drop to _apt, who cannot enter a private directory.
    'APT::Sandbox::User': 'root',
    'APT::Get::AllowUnauthenticated': 'false',
    'Acquire::AllowInsecureRepositories': 'false',
    'Acquire::AllowWeakRepositories': 'false',
    'Acquire::Retries': '3',
    'Acquire::http::Timeout': '30',
    'Acquire::https::Timeout': '30',
  };
  // Hooks of the host (cache cleaners, desktop notifiers) are about the host's own apt.
  const hooks = ['Pre-Invoke', 'Post-Invoke', 'Post-Invoke-Success'].map(
    (hook) => `#clear APT::Update::${hook};`,
  );
  const lines = Object.entries(settings).map(([key, value]) => `${key} "${value}";`);
  return `${[...hooks, '#clear APT::Architectures;', ...lines].join('\n')}\n`;
}

async function aptRun(
  options: AptRootOptions,
  argv: readonly [string, ...string[]],
  cwd: string,
): Promise<Buffer> {
  try {
    const result = await options.runner.run(argv, {
      cwd,
      signal: options.signal,
      timeoutMs: TIMEOUT_MS,
      env: { LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
      onStderrLine: (line) => reportStatus(line, options.onProgress),
    });
    return result.stdout;
  } catch (error) {
    if (error instanceof BangerError && error.code === 'io_error') {
      if (isNoSpaceText(error.message)) throw asNoSpace(options.dir, error);
      throw new BangerError('build_failed', `cannot get packages from Debian's mirror: ${errorText(error)}`, {
        hint: 'check the network, and http_proxy if there is a proxy; then run the command again',
        cause: error,
      });
    }
    throw error;
  }
}

/** apt's machine-readable progress (`APT::Status-Fd`): `dlstatus:<item>:<percent>:<text>`. */
function reportStatus(line: string, onProgress: OnImageProgress): void {
  const match = /^dlstatus:\d+:([\d.]+):(.*)$/.exec(line);
  if (match === null) return;
  const done = Math.round(Number(match[1]));
  if (done <= 100) onProgress({ step: 'fetch', text: "fetching from Debian's mirror", done, total: 100 });
}

async function update(options: AptRootOptions, configPath: string): Promise<void> {
  const argv = ['apt-get', '-c', configPath, '-o', 'APT::Status-Fd=2', '--error-on=any', 'update'] as const;
  await aptRun(options, argv, options.dir);
}

async function readField(
  options: AptRootOptions,
  configPath: string,
  packageName: string,
  field: string,
): Promise<string | undefined> {
  checkPackageName(packageName);
  const argv = ['apt-cache', '-c', configPath, 'show', '--no-all-versions', packageName] as const;
  const record = (await aptRun(options, argv, options.dir)).toString('utf8');
  const prefix = `${field}: `;
  return record
    .split('\n')
    .find((line) => line.startsWith(prefix))
    ?.slice(prefix.length);
}

async function download(
  options: AptRootOptions,
  configPath: string,
  packageName: string,
  version: string,
): Promise<string> {
  checkPackageName(packageName);
  const downloads = join(options.dir, 'downloads');
  const spec = `${packageName}=${version}`;
  await aptRun(options, ['apt-get', '-c', configPath, '-o', 'APT::Status-Fd=2', 'download', spec], downloads);
  const file = (await readdir(downloads)).find((name) => name.startsWith(`${packageName}_`));
  if (file === undefined) throw new BangerError('build_failed', `apt downloaded no ${spec}`);
  return join(downloads, file);
}

function checkPackageName(name: string): void {
  if (!PACKAGE_NAME.test(name))
    throw new BangerError('bad_request', `"${name}" is not a Debian package name`);
}
