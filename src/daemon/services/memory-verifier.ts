/**
 * Whether a frozen memory file still has the content it was frozen with. Reading it all takes some 100 ms, so that is done
 * once in a daemon's life for each file, and again when the file's inode, size or times are others than then.
 */

import { stat } from 'node:fs/promises';
import { BangerError } from '../../core/errors.ts';
import { sparseDigest } from '../../host/sparse-digest.ts';
import type { CommandRunner } from '../../host/runner.ts';
import { abandonable } from '../abandonable.ts';

const NEVER = new AbortController().signal;

export interface FrozenMemory {
  readonly path: string;
  readonly sizeBytes: number;
  readonly sparseSha256: string;
}

export class MemoryVerifier {
  readonly #runner: CommandRunner;
  /** By path: the file that was read, and the outcome. */
  readonly #checked = new Map<string, { readonly file: string; readonly outcome: Promise<void> }>();

  constructor(runner: CommandRunner) {
    this.#runner = runner;
  }

  /** @throws {BangerError} `verify_failed`, `cancelled` */
  async verify(memory: FrozenMemory, signal: AbortSignal): Promise<void> {
    const file = await identity(memory);
    const known = this.#checked.get(memory.path);
    if (known?.file === file) return await abandonable(known.outcome, signal);
    const outcome = this.#read(memory);
    this.#checked.set(memory.path, { file, outcome });
    await abandonable(outcome, signal);
  }

  /** It has just been written by us, with that digest. */
  async trust(memory: FrozenMemory): Promise<void> {
    this.#checked.set(memory.path, { file: await identity(memory), outcome: Promise.resolve() });
  }

  forget(path: string): void {
    this.#checked.delete(path);
  }

  async #read({ path, sparseSha256 }: FrozenMemory): Promise<void> {
    const digest = await sparseDigest(path, this.#runner, NEVER);
    if (digest === sparseSha256) return;
    throw new BangerError('verify_failed', `the frozen memory ${path} is not what was written`, {
      hint: `its digest is ${digest}, and was ${sparseSha256}`,
    });
  }
}

async function identity({ path, sizeBytes }: FrozenMemory): Promise<string> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true }).catch((cause: unknown) => {
    throw new BangerError('verify_failed', `the frozen memory ${path} cannot be read`, { cause });
  });
  if (size !== BigInt(sizeBytes)) {
    throw new BangerError('verify_failed', `the frozen memory ${path} has ${size} bytes, not ${sizeBytes}`);
  }
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}
