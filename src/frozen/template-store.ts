/**
 * Memory templates on disk: booted, idle guests, frozen before anybody used them. A cache: each can be made again.
 *
 *   <state>/templates/<key>/          manifest.json, memory, state, root.qcow2
 *                                     used (its mtime: when a VM was last started from it)
 *   <state>/templates/failures.json   starts from templates that came to nothing
 *
 * A directory appears under its key whole, by a rename, and is never changed.
 */

import { readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import { createDraft, type Draft } from '../host/drafts.ts';
import { fileError, readJsonFile, removeTree, writeFileAtomic } from '../host/files.ts';
import {
  allocatedBytes,
  type FrozenMachine,
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

export class TemplateStore {
  readonly #dir: string;

  constructor(templatesDir: string) {
    this.#dir = templatesDir;
  }

  /** Undefined when there is none, and when what is there is damaged: then it is removed, to be made again. */
  async find(key: string): Promise<Template | undefined> {
    const dir = join(this.#dir, key);
    try {
      const manifest = await readFrozenManifest(dir, templateSchema);
      return manifest === undefined ? undefined : { key, dir, manifest };
    } catch (error) {
      if (!(error instanceof BangerError) || error.code !== 'io_error') throw error;
      await this.remove(key);
      return undefined;
    }
  }

  async list(): Promise<readonly Template[]> {
    const found = await Promise.all((await this.#keys()).map((key) => this.find(key)));
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
    await utimes(join(this.#dir, key, USED_FILE), at, at).catch(() => undefined);
  }

  async use(key: string): Promise<TemplateUse> {
    const dir = join(this.#dir, key);
    const used = await stat(join(dir, USED_FILE)).catch(() => undefined);
    return { allocatedBytes: await allocatedBytes(dir), usedAt: (used?.mtime ?? new Date(0)).toISOString() };
  }

  /** Oldest first. */
  async failures(): Promise<readonly TemplateFailure[]> {
    const json = await readJsonFile(join(this.#dir, FAILURES_FILE), MAX_FAILURES_BYTES).catch(() => []);
    return failuresSchema.safeParse(json ?? []).data ?? [];
  }

  async noteFailure(failure: TemplateFailure): Promise<void> {
    const failures = [...(await this.failures()), failure].slice(-MAX_FAILURES);
    const path = join(this.#dir, FAILURES_FILE);
    await writeFileAtomic(path, `${JSON.stringify(failures, null, 2)}\n`, { mode: 0o600, durable: false });
  }

  /** VMs started from it go on: what they still read of it is theirs until they end. */
  async remove(key: string): Promise<void> {
    if (!KEY.test(key)) throw new BangerError('bad_request', `"${key}" is no template's key`);
    const dir = join(this.#dir, key);
    // Without its manifest it is no template any more, however far the removal comes.
    await rm(join(dir, MANIFEST_FILE), { force: true }).catch((error: unknown) => {
      throw fileError(`cannot remove ${dir}`, error);
    });
    await removeTree(dir, { below: this.#dir });
  }

  /** What killed processes left half made or half removed. */
  async leftovers(): Promise<readonly string[]> {
    const names = await readdir(this.#dir).catch(() => []);
    const orphans = await Promise.all(
      names.map(async (name) => {
        const path = join(this.#dir, name);
        if (name === FAILURES_FILE) return [];
        const published =
          KEY.test(name) && (await stat(join(path, MANIFEST_FILE)).catch(() => undefined)) !== undefined;
        return published ? [] : [path];
      }),
    );
    return orphans.flat();
  }

  async sweep(path: string): Promise<void> {
    await removeTree(path, { below: this.#dir });
  }

  async #keys(): Promise<readonly string[]> {
    const names = await readdir(this.#dir).catch(() => []);
    return names.filter((name) => KEY.test(name)).sort();
  }
}
