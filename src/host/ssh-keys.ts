/** Private keys of ssh in files: made once by the host's ssh-keygen, never replaced, and not used when others can read them. */

import { link, open, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BangerError, errorText } from '../core/errors.ts';
import { publicKeyOf } from '../core/ssh/known-hosts.ts';
import {
  fileError,
  isThere,
  makeTemporaryDir,
  readTextFile,
  removeTree,
  sweepTemporaries,
  syncDir,
  writeFileAtomic,
} from './files.ts';
import type { CommandRunner } from './runner.ts';

export interface SshKey {
  readonly file: string;
  /** `ssh-ed25519 AAAA…`, without a comment. */
  readonly publicKey: string;
}

/** OpenSSH's own limit for a private key file: sshkey.c, authfile.c. */
const MAX_KEY_BYTES = 64 * 1024;
const TIMEOUT_MS = 20_000;

/**
 * Makes an ed25519 key without a passphrase, in a directory that is there. One that appears meanwhile stays, and counts.
 * @throws {BangerError} `dependency_missing`, `cancelled`, `no_space`, `permission`, `io_error`
 */
export async function makeSshKey(
  file: string,
  comment: string,
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<void> {
  const parent = dirname(file);
  await sweepTemporaries(parent);
  const temporary = await makeTemporaryDir(file);
  try {
    const made = join(temporary, 'key');
    const argv = ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', made] as const;
    await keygen(runner, argv, signal);
    await syncFile(made);
    // Unlike a rename, never in the place of another.
    await link(made, file).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    });
    await syncDir(parent);
  } catch (error) {
    throw fileError(`cannot make the ssh key ${file}`, error);
  } finally {
    await removeTree(temporary, { below: parent });
  }
}

/**
 * A key that can be used. Its public part is worked out anew: a file NAME.pub may be another key's.
 * @throws {BangerError} `not_found`, `permission` (others can read it, or it is not ours), `verify_failed` (no key, or damaged),
 *   `dependency_missing`, `cancelled`
 */
export async function readSshKey(file: string, runner: CommandRunner, signal: AbortSignal): Promise<SshKey> {
  await assertPrivate(file);
  try {
    const argv = ['ssh-keygen', '-y', '-P', '', '-f', file] as const;
    const { stdout } = await keygen(runner, argv, signal);
    const publicKey = publicKeyOf(stdout.toString('utf8'));
    if (publicKey !== undefined) return { file, publicKey };
  } catch (error) {
    if (!(error instanceof BangerError) || error.code !== 'io_error') throw error;
    const publicKey = isLocked(error) ? await publicPart(file) : undefined;
    if (publicKey !== undefined) return { file, publicKey };
    throw new BangerError('verify_failed', `${file} is not a key that ssh can use: ${errorText(error)}`, {
      hint: `mv ${file} ${file}.damaged`,
      cause: error,
    });
  }
  throw new BangerError('verify_failed', `ssh-keygen says nothing about ${file}`);
}

/** Writes NAME.pub beside a key where it is missing or says something else. */
export async function keepPublicFile({ file, publicKey }: SshKey, comment: string): Promise<void> {
  const path = `${file}.pub`;
  const there = await readTextFile(path, MAX_KEY_BYTES).catch(() => undefined);
  if (publicKeyOf(there ?? '') !== publicKey) await writeFileAtomic(path, `${publicKey} ${comment}\n`);
}

/** The private key as its file has it. */
export async function privateKeyBytes({ file }: SshKey): Promise<Uint8Array> {
  return await readFile(file);
}

async function keygen(
  runner: CommandRunner,
  argv: readonly ['ssh-keygen', ...string[]],
  signal: AbortSignal,
) {
  try {
    const env = { SSH_ASKPASS: undefined, SSH_ASKPASS_REQUIRE: 'never' };
    return await runner.run(argv, { signal, timeoutMs: TIMEOUT_MS, maxOutputBytes: MAX_KEY_BYTES, env });
  } catch (error) {
    if (!(error instanceof BangerError) || error.code !== 'dependency_missing') throw error;
    throw new BangerError('dependency_missing', 'ssh-keygen is not installed on this host', {
      hint: 'sudo apt-get install openssh-client',
      cause: error,
    });
  }
}

/** Its passphrase is the user's, or their agent's, business. */
function isLocked(error: BangerError): boolean {
  return /passphrase/i.test(error.message);
}

async function publicPart(file: string): Promise<string | undefined> {
  return publicKeyOf((await readTextFile(`${file}.pub`, MAX_KEY_BYTES)) ?? '');
}

/** ssh itself refuses such a key, late and in other words. */
async function assertPrivate(file: string): Promise<void> {
  if (!(await isThere(file).catch(() => true))) {
    throw new BangerError('not_found', `there is no ssh key ${file}`, {
      hint: `ssh-keygen -t ed25519 -f ${file}`,
    });
  }
  const facts = await stat(file).catch((error: unknown) => {
    throw fileError(`cannot look at the ssh key ${file}`, error);
  });
  if (!facts.isFile() || facts.size > MAX_KEY_BYTES) {
    throw new BangerError(
      'verify_failed',
      `${file} is not a key that ssh can use: it is no file, or too large`,
    );
  }
  const uid = process.geteuid?.();
  if (facts.uid !== uid) {
    throw new BangerError('permission', `the ssh key ${file} belongs to uid ${facts.uid}, not to uid ${uid}`);
  }
  if ((facts.mode & 0o077) === 0) return;
  const mode = (facts.mode & 0o7777).toString(8).padStart(4, '0');
  throw new BangerError('permission', `the ssh key ${file} is open to other users (mode ${mode})`, {
    hint: `chmod 600 ${file}`,
  });
}

async function syncFile(path: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.sync();
}
