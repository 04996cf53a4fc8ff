/**
 * Whether a frozen file (a guest's memory, its disk) still has the content it was frozen with. Reading a memory takes some
 * 100 ms, so that is done once in a daemon's life for each file, and again when its inode, size or times are others than then.
 */

import { lstat } from 'node:fs/promises';
import { BangerError } from '../../../core/errors.ts';
import { sparseDigest } from '../../../host/sparse-digest.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { abandonable } from '../../abandonable.ts';

const NEVER = new AbortController().signal;

export interface FrozenFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly sparseSha256: string;
}

export class FileVerifier {
  readonly #runner: CommandRunner;
  /** By path: the file that was read, and the outcome. */
  readonly #checked = new Map<string, { readonly file: string; readonly outcome: Promise<void> }>();

  constructor(runner: CommandRunner) {
    this.#runner = runner;
  }

  /** @throws {BangerError} `verify_failed`, `cancelled`; `dependency_missing` and others: it could not be read */
  async verify(frozen: FrozenFile, signal: AbortSignal): Promise<void> {
    const file = await identity(frozen);
    const known = this.#checked.get(frozen.path);
    if (known?.file === file) return await abandonable(known.outcome, signal);
    const outcome = this.#read(frozen);
    const entry = { file, outcome };
    this.#checked.set(frozen.path, entry);
    outcome.catch((error: unknown) => {
      // It says nothing about the file that it could not be read once.
      const isVerdict = error instanceof BangerError && error.code === 'verify_failed';
      if (!isVerdict && this.#checked.get(frozen.path) === entry) this.#checked.delete(frozen.path);
    });
    await abandonable(outcome, signal);
  }

  /** It has just been written by us, with that digest. */
  async trust(frozen: FrozenFile): Promise<void> {
    this.#checked.set(frozen.path, { file: await identity(frozen), outcome: Promise.resolve() });
  }

  /** It is gone. */
  forget({ path }: Pick<FrozenFile, 'path'>): void {
    this.#checked.delete(path);
  }

  async #read({ path, sparseSha256 }: FrozenFile): Promise<void> {
    const digest = await sparseDigest(path, this.#runner, NEVER);
    if (digest === sparseSha256) return;
    throw new BangerError('verify_failed', `the frozen file ${path} is not what was written`, {
      hint: `its digest is ${digest}, and was ${sparseSha256}`,
    });
  }
}

async function identity({ path, sizeBytes }: FrozenFile): Promise<string> {
  const found = await lstat(path, { bigint: true }).catch((cause: unknown) => {
    throw new BangerError('verify_failed', `the frozen file ${path} cannot be read`, { cause });
  });
  const { dev, ino, size, mtimeNs, ctimeNs } = found;
  if (!found.isFile()) throw new BangerError('verify_failed', `${path} is not a regular file`);
  if (size !== BigInt(sizeBytes)) {
    throw new BangerError('verify_failed', `the frozen file ${path} has ${size} bytes, not ${sizeBytes}`);
  }
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}
