import assert from 'node:assert/strict';
import {
  mkdtempSync,
  openSync,
  closeSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BangerError } from '../../../core/errors.ts';
import { type CommandRunner, createRunner } from '../../../host/runner.ts';
import { sparseDigest } from '../../../host/sparse-digest.ts';
import { FileVerifier, type FrozenFile } from './file-verifier.ts';

const NEVER = new AbortController().signal;
const SIZE = 1024 * 1024;

class Frozen implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'bt-verify-'));
  readonly path = join(this.dir, 'memory');
  /** How often the file was read: each time asks where its data is. */
  reads = 0;
  broken: BangerError | undefined;
  readonly verifier = new FileVerifier(this.#runner());

  async make(): Promise<FrozenFile> {
    writeFileSync(this.path, 'a memory');
    truncateSync(this.path, SIZE);
    const sparseSha256 = await sparseDigest(this.path, createRunner(), NEVER);
    return { path: this.path, sizeBytes: SIZE, sparseSha256 };
  }

  poke(at: number): void {
    const file = openSync(this.path, 'r+');
    writeSync(file, 'X', at);
    closeSync(file);
  }

  #runner(): CommandRunner {
    const real = createRunner();
    return {
      ...real,
      run: async (argv, options) => {
        this.reads += 1;
        if (this.broken !== undefined) throw this.broken;
        return await real.run(argv, options);
      },
    };
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

const isVerdict = (error: unknown): boolean => error instanceof BangerError && error.code === 'verify_failed';

test('read once, also by several at once, until it is another file; a changed byte is found wherever it is', async () => {
  using frozen = new Frozen();
  const facts = await frozen.make();
  await Promise.all([1, 2, 3].map(() => frozen.verifier.verify(facts, NEVER)));
  await frozen.verifier.verify(facts, NEVER);
  assert.equal(frozen.reads, 1);
  for (const at of [0, SIZE / 2, SIZE - 1]) {
    await frozen.make();
    frozen.poke(at);
    await assert.rejects(frozen.verifier.verify(facts, NEVER), isVerdict);
    const { reads } = frozen;
    await assert.rejects(frozen.verifier.verify(facts, NEVER), isVerdict);
    assert.equal(frozen.reads, reads, 'the verdict stands');
  }
});

test('what was trusted is not read; forgotten, it is', async () => {
  using frozen = new Frozen();
  const facts = await frozen.make();
  await frozen.verifier.trust(facts);
  await frozen.verifier.verify(facts, NEVER);
  assert.equal(frozen.reads, 0);
  frozen.verifier.forget(facts);
  await frozen.verifier.verify(facts, NEVER);
  assert.equal(frozen.reads, 1);
});

test('that it could not be read once is no verdict', async () => {
  using frozen = new Frozen();
  const facts = await frozen.make();
  frozen.broken = new BangerError('dependency_missing', 'no qemu-img');
  await assert.rejects(frozen.verifier.verify(facts, NEVER), /no qemu-img/);
  frozen.broken = undefined;
  await frozen.verifier.verify(facts, NEVER);
});

test('a missing, shorter or linked file is refused without being read; a caller who leaves does not end the reading', async () => {
  using frozen = new Frozen();
  const facts = await frozen.make();
  const left = new AbortController();
  const leaving = frozen.verifier.verify(facts, left.signal);
  left.abort();
  await assert.rejects(leaving, /cancelled/);
  await frozen.verifier.verify(facts, NEVER);
  assert.equal(frozen.reads, 1);
  truncateSync(frozen.path, SIZE / 2);
  await assert.rejects(frozen.verifier.verify(facts, NEVER), isVerdict);
  rmSync(frozen.path);
  await assert.rejects(frozen.verifier.verify(facts, NEVER), isVerdict);
  symlinkSync('/etc/passwd', frozen.path);
  await assert.rejects(frozen.verifier.verify(facts, NEVER), isVerdict);
  assert.equal(frozen.reads, 1);
});
