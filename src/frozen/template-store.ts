/**
 * Memory templates on disk: booted, idle guests, frozen before anybody used them. A cache: each can be made again.
 *
 *   <state>/templates/<key>/          manifest.json, memory, state, root.qcow2
 *                                     used (its mtime: when a VM was last started from it)
 *   <state>/templates/failures.json   starts from templates that came to nothing
 *
 * A directory appears under its key whole, by a rename, and is never changed.
 */

import { lstat, lutimes, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import { createDraft, type Draft } from '../host/drafts.ts';
import { fileError, isAbandonedTemporary, readJsonFile, removeTree, writeFileAtomic } from '../host/files.ts';
import {
  allocatedBytes,
  type FrozenMachine,
  frozenPaths,
  machineFields,
  MANIFEST_FILE,
  MANIFEST_VERSION,
  memorySchema,
  readFrozenManifest,
  stateSchema,
  writeFrozenManifest,
} from './manifest.ts';

const KEY = /^[0-9a-f]{64}$/;
const USED_FILE = 'used';
const FAILURES_FILE = 'failures.json';
const MAX_FAILURES_BYTES = 1024 * 1024;
/** Older ones are forgotten. */
const MAX_FAILURES = 100;

const templateSchema = z.strictObject({
  kind: z.literal('template'),
  ...machineFields,
  rootDisk: memorySchema,
  memory: memorySchema,
  state: stateSchema,
});
export type TemplateManifest = z.infer<typeof templateSchema>;

const failuresSchema = z.array(
  z.strictObject({
    /** RFC 3339. */
    at: z.string().max(64),
    key: z.string().regex(KEY),
    image: z.string().max(256),
    reason: z.string().max(4096),
  }),
);
/** A start from a template that did not lead to a guest that answers. */
export type TemplateFailure = z.infer<typeof failuresSchema>[number];

export interface Template {
  readonly key: string;
  readonly dir: string;
  readonly manifest: TemplateManifest;
}

export interface TemplateUse {
  /** Blocks on the disk, all files together. */
  readonly allocatedBytes: number;
  /** RFC 3339; when it was made, if it was never used. */
  readonly usedAt: string;
}

export function frozenTemplate({ dir, manifest }: Template): FrozenMachine {
  const { shape, initramfsSha256, state, rootDiskBytes } = manifest;
  return { dir, shape, initramfsSha256, state, rootDiskBytes };
}

export interface Leftover {
  readonly path: string;
  /**
   * draft: it was being made, and a machine may still be running in it. remains: of a published one that was being
   * removed; VMs that were started from it may still be running, and need nothing of it.
   */
  readonly kind: 'draft' | 'remains';
}

export class TemplateStore {
  readonly #dir: string;
  #failuresWritten: Promise<unknown> = Promise.resolve();

  constructor(templatesDir: string) {
    this.#dir = templatesDir;
  }

  /** Undefined when there is none, and when what is there is damaged: then it is removed, to be made again. */
  async find(key: string): Promise<Template | undefined> {
    try {
      return await this.inspect(key);
    } catch (error) {
      if (!isDamage(error)) throw error;
      await this.remove(key);
      return undefined;
    }
  }

  /**
   * As `find`, and changes nothing. Sizes are looked at, not contents.
   * @throws {BangerError} `io_error`, `limit_exceeded`: it is damaged; `permission`
   */
  async inspect(key: string): Promise<Template | undefined> {
    const dir = this.#dirOf(key);
    const found = await lstat(dir).catch(() => undefined);
    if (found === undefined) return undefined;
    if (!found.isDirectory()) throw new BangerError('io_error', `${dir} is not a directory`);
    const manifest = await readFrozenManifest(dir, templateSchema);
    if (manifest === undefined) return undefined;
    await assertWhole(dir, manifest);
    return { key, dir, manifest };
  }

  async list(): Promise<readonly Template[]> {
    const found = await Promise.all((await this.keys()).map((key) => this.find(key)));
    return found.filter((template) => template !== undefined);
  }

  /** A directory to fill: `publish` makes it the template of this key, unless there is one by then. */
  async draft(key: string): Promise<Draft> {
    return await createDraft(this.#dir, key);
  }

  async writeManifest(
    draft: Draft,
    manifest: Omit<TemplateManifest, 'manifestVersion' | 'kind'>,
  ): Promise<void> {
    const whole = {
      manifestVersion: MANIFEST_VERSION,
      kind: 'template',
      ...manifest,
    } satisfies TemplateManifest;
    await writeFrozenManifest(draft.dir, whole);
    await writeFile(join(draft.dir, USED_FILE), '', { mode: 0o600 });
  }

  /** The VM that starts from it now keeps what it needs of it: a template may go at any time. */
  async markUsed(key: string): Promise<void> {
    const at = new Date();
    await lutimes(join(this.#dirOf(key), USED_FILE), at, at).catch(() => undefined);
  }

  async use(key: string): Promise<TemplateUse> {
    const dir = this.#dirOf(key);
    const used = await lstat(join(dir, USED_FILE)).catch(() => undefined);
    return { allocatedBytes: await allocatedBytes(dir), usedAt: (used?.mtime ?? new Date(0)).toISOString() };
  }

  /** Oldest first. */
  async failures(): Promise<readonly TemplateFailure[]> {
    const json = await readJsonFile(join(this.#dir, FAILURES_FILE), MAX_FAILURES_BYTES).catch(() => []);
    return failuresSchema.safeParse(json ?? []).data ?? [];
  }

  async noteFailure(failure: TemplateFailure): Promise<void> {
    await this.#changeFailures((failures) => [...failures, failure].slice(-MAX_FAILURES));
  }

  async forgetFailures(key: string): Promise<void> {
    await this.#changeFailures((failures) => failures.filter((one) => one.key !== key));
  }

  /** VMs started from it go on: what they still read of it is theirs until they end. */
  async remove(key: string): Promise<void> {
    const dir = this.#dirOf(key);
    const found = await lstat(dir).catch(() => undefined);
    if (found?.isDirectory() === true) {
      // Without its manifest it is no template any more, however far the removal comes.
      await rm(join(dir, MANIFEST_FILE), { force: true, recursive: true }).catch((error: unknown) => {
        throw fileError(`cannot remove ${dir}`, error);
      });
    }
    await removeTree(dir, { below: this.#dir });
  }

  /** What killed processes left half made or half removed. What a living one is making is not among it. */
  async leftovers(): Promise<readonly Leftover[]> {
    const names = await readdir(this.#dir).catch(() => []);
    const found = await Promise.all(names.map((name) => this.#leftover(name)));
    return found.filter((one) => one !== undefined);
  }

  async sweep({ path }: Leftover): Promise<void> {
    await removeTree(path, { below: this.#dir });
  }

  /** Of all that lie under a key, whole or not. */
  async keys(): Promise<readonly string[]> {
    const names = await readdir(this.#dir).catch(() => []);
    return names.filter((name) => KEY.test(name)).sort();
  }

  async #leftover(name: string): Promise<Leftover | undefined> {
    const path = join(this.#dir, name);
    if (name === FAILURES_FILE) return undefined;
    if (name.startsWith('.')) return isAbandonedTemporary(name) ? { path, kind: 'draft' } : undefined;
    const manifest = await lstat(join(path, MANIFEST_FILE)).catch(() => undefined);
    return KEY.test(name) && manifest !== undefined ? undefined : { path, kind: 'remains' };
  }

  /** One after the other, so that none is lost. */
  async #changeFailures(change: (failures: readonly TemplateFailure[]) => readonly TemplateFailure[]) {
    const path = join(this.#dir, FAILURES_FILE);
    const changed = this.#failuresWritten.then(async () => {
      const before = await this.failures();
      const after = change(before);
      if (after.length === 0 && before.length === 0) return;
      const text = `${JSON.stringify(after, null, 2)}\n`;
      await writeFileAtomic(path, text, { mode: 0o600, durable: false });
    });
    this.#failuresWritten = changed.catch(() => undefined);
    await changed;
  }

  #dirOf(key: string): string {
    if (!KEY.test(key)) throw new BangerError('bad_request', `"${key}" is no template's key`);
    return join(this.#dir, key);
  }
}

/** Every file is a file of ours, as long as it was. What is in them is for who uses them to verify. */
async function assertWhole(dir: string, { memory, state, rootDisk }: TemplateManifest): Promise<void> {
  const paths = frozenPaths(dir);
  const sizes = [
    [paths.memory, memory.sizeBytes],
    [paths.state, state.sizeBytes],
    [paths.rootDisk, rootDisk.sizeBytes],
  ] as const;
  for (const [path, sizeBytes] of sizes) {
    const found = await lstat(path).catch(() => undefined);
    if (found?.isFile() !== true) throw new BangerError('io_error', `${path} is missing`);
    if (found.size === sizeBytes) continue;
    throw new BangerError('io_error', `${path} has ${found.size} bytes; its manifest says ${sizeBytes}`);
  }
}

function isDamage(error: unknown): boolean {
  return error instanceof BangerError && (error.code === 'io_error' || error.code === 'limit_exceeded');
}
