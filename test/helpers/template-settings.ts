/** Homes of tests about templates: small machines, so that making one takes little. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { settled, type TestHome } from './test-home.ts';

const SMALL = '[vm_defaults]\nvcpu = 1\nmemory = "512MiB"\n';
/** Each VM starts from the template itself: no machine waits for it. */
export const SMALL_WITH_TEMPLATES = `${SMALL}[templates]\nstandby = false\n`;
export const SMALL_WITH_STANDBY = SMALL;
const KEY = /^[0-9a-f]{64}$/;
const MAKE_TIMEOUT_MS = 120_000;

/** Directories of published templates. */
export function published(home: TestHome): readonly string[] {
  return home
    .templates()
    .filter((name) => KEY.test(name))
    .map((name) => join(home.templatesDir, name));
}

/** The one template that there is, once there is one and nothing is being made. */
export async function theTemplate(home: TestHome): Promise<string> {
  const drafts = () => home.templates().filter((name) => name.startsWith('.'));
  await settled(() => published(home).length === 1 && drafts().length === 0, MAKE_TIMEOUT_MS);
  const [dir, ...others] = published(home);
  assert.ok(dir !== undefined && others.length === 0, home.templates().join(' '));
  return dir;
}

/** Another state, as long as it was, and the manifest says that it is so. @returns the way back */
export function forgeState(dir: string): () => void {
  const path = join(dir, 'state');
  const manifestPath = join(dir, 'manifest.json');
  const before = [path, manifestPath].map((file) => [file, readFileSync(file)] as const);
  const bytes = readFileSync(path).fill(0);
  writeFileSync(path, bytes);
  const manifest = JSON.parse(readFileSync(manifestPath, 'utf8')) as { state: object };
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(manifestPath, JSON.stringify({ ...manifest, state: { sizeBytes: bytes.length, sha256 } }));
  return () => {
    for (const [file, content] of before) writeFileSync(file, content);
  };
}

export interface Failure {
  readonly reason: string;
}

export function failures(home: TestHome): readonly Failure[] {
  return JSON.parse(readFileSync(join(home.templatesDir, 'failures.json'), 'utf8')) as readonly Failure[];
}
