/** The daemon's program: reads argv, runs, exits. Everything else is in src/daemon. */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BUILD, HANDSHAKE_VERSION } from '../core/buildinfo.ts';
import { BangerError, ERROR_CODES } from '../core/errors.ts';
import { tunablesWithoutHugePages } from '../core/malloc-tunables.ts';
import { resolvePaths } from '../host/paths.ts';
import { EXIT_ALREADY_RUNNING } from '../rpc/daemon-exit.ts';

const USAGE = `usage: bangerd                     serve this user's sandboxes until SIGTERM
       bangerd --offline           serve one client on file descriptor 3, without the daemon's lock, sockets or log
       bangerd --check-migrations  whether this program fits the database, which stays untouched;
                                   exit status 0 as it is, 1 after a migration, 2 it is newer, 3 cannot tell
       bangerd --version

banger starts it by itself; to stop it: banger daemon stop
`;

/** The directory that holds package.json: the sources run two levels below it, the bundle one. */
function installRoot(): string {
  let dir = import.meta.dirname;
  while (!existsSync(join(dir, 'package.json')) && dir !== dirname(dir)) dir = dirname(dir);
  return dir;
}

async function serve(): Promise<number> {
  const { runDaemon } = await import('../daemon/daemon.ts');
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());
  process.on('SIGHUP', () => undefined);
  process.umask(0o077);
  // The C library has read it.
  const tunables = tunablesWithoutHugePages(process.env);
  if (tunables === undefined) delete process.env['GLIBC_TUNABLES'];
  else process.env['GLIBC_TUNABLES'] = tunables;
  // A bug in one request must not take every other request with it; stderr is the daemon's log.
  process.on('unhandledRejection', (reason) => console.error('bangerd: unhandled rejection:', reason));
  try {
    await runDaemon({
      paths: resolvePaths(process.env, process.getuid?.() ?? 0),
      version: HANDSHAKE_VERSION,
      guestBinDir: join(installRoot(), 'build', 'guest'),
      launcher: join(installRoot(), 'bin', 'banger'),
      env: process.env,
      signal: stop.signal,
    });
    return 0;
  } catch (error) {
    const known = error instanceof BangerError ? error : undefined;
    process.stderr.write(`bangerd: ${known?.message ?? (error as Error).stack}\n`);
    if (known?.hint !== undefined) process.stderr.write(`  ${known.hint}\n`);
    // Whoever started this one may simply talk to the one that runs.
    if (known?.code === 'in_use') return EXIT_ALREADY_RUNNING;
    return known === undefined ? 1 : ERROR_CODES[known.code].exitStatus;
  }
}

/** Loads no more than it needs: a person waits for it. */
async function serveOffline(): Promise<number> {
  // What ends it is its client's hanging up, after what it began has been undone.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
  process.umask(0o077);
  const { runOffline } = await import('../daemon/offline.ts');
  const served = await runOffline({
    paths: () => resolvePaths(process.env, process.getuid?.() ?? 0),
    version: HANDSHAKE_VERSION,
    guestBinDir: join(installRoot(), 'build', 'guest'),
    env: process.env,
  });
  if (served) return 0;
  process.stderr.write('bangerd: --offline needs a client on file descriptor 3\n');
  return 2;
}

async function reportMigrations(): Promise<number> {
  const { checkStateMigrations } = await import('../daemon/check-migrations.ts');
  const { line, exitStatus } = await checkStateMigrations(process.env, process.getuid?.() ?? 0);
  process.stdout.write(`${line}\n`);
  return exitStatus;
}

async function main(args: readonly string[]): Promise<number> {
  if (args.length === 0) return await serve();
  if (args.length === 1 && args[0] === '--offline') return await serveOffline();
  if (args.length === 1 && args[0] === '--check-migrations') return await reportMigrations();
  if (args.length === 1 && args[0] === '--version') {
    process.stdout.write(`bangerd ${BUILD.version}\n`);
    return 0;
  }
  process.stderr.write(USAGE);
  return args.length === 1 && args[0] === '--help' ? 0 : 2;
}

process.exit(await main(process.argv.slice(2)));
