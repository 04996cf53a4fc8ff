/** Templates of a few KiB, as TemplateStore publishes them: what their manifests say is so. */

import { createHash } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { frozenPaths } from '../../src/frozen/manifest.ts';
import { type TemplateManifest, type TemplateStore } from '../../src/frozen/template-store.ts';
import { createRunner } from '../../src/host/runner.ts';
import { sparseDigest } from '../../src/host/sparse-digest.ts';

export const MEMORY_BYTES = 1024 * 1024;
const NEVER = new AbortController().signal;

export function templateKey(digit: string): string {
  return digit.repeat(64).slice(0, 64);
}

export type ManifestFacts = Omit<TemplateManifest, 'manifestVersion' | 'kind'>;

/** Fills a draft's directory and says what a manifest says of it. */
export async function fillTemplate(dir: string, change: Partial<ManifestFacts> = {}): Promise<ManifestFacts> {
  const { memory, state, rootDisk } = frozenPaths(dir);
  writeFileSync(memory, 'a memory', { mode: 0o600 });
  truncateSync(memory, MEMORY_BYTES);
  writeFileSync(state, 'a state', { mode: 0o600 });
  writeFileSync(rootDisk, 'a disk', { mode: 0o600 });
  const digest = (path: string) => sparseDigest(path, createRunner(), NEVER);
  return {
    createdAt: new Date(Date.now() - 1000).toISOString(),
    shape: { vmm: 'QEMU' },
    kernel: { name: 'cloud', sha256: 'a'.repeat(64) },
    initramfsSha256: 'b'.repeat(64),
    image: { name: 'debian-bookworm', rootfsSha256: 'd'.repeat(64) },
    vcpus: 2,
    memoryMib: 1,
    accelerator: 'tcg',
    machine: 'microvm',
    rootDiskBytes: 1024 ** 3,
    rootDisk: { sizeBytes: 'a disk'.length, sparseSha256: await digest(rootDisk) },
    memory: { sizeBytes: MEMORY_BYTES, sparseSha256: await digest(memory) },
    state: {
      sizeBytes: 'a state'.length,
      sha256: createHash('sha256').update('a state').digest('hex'),
    },
    ...change,
  };
}

/** @returns its directory */
export async function publishTemplate(
  store: TemplateStore,
  templatesDir: string,
  key: string,
  change: Partial<ManifestFacts> = {},
): Promise<string> {
  await using draft = await store.draft(key);
  await store.writeManifest(draft, await fillTemplate(draft.dir, change));
  await draft.publish();
  return join(templatesDir, key);
}
