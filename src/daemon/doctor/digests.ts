/** Deep checks: every byte of images, kernels and initramfs against the digests that were written down when they were made. */

import { basename, join } from 'node:path';
import { errorText } from '../../core/errors.ts';
import { counted } from '../../core/units.ts';
import { listDir } from '../../host/files.ts';
import { readImageManifest, readKernelManifest } from '../../images/manifests.ts';
import { sparseDigest } from '../../host/sparse-digest.ts';
import { type Check, failure, type Outcome, orOk } from './check.ts';
import type { DoctorContext } from './context.ts';
import { fileDigest } from './file-digest.ts';

const TIMEOUT_MS = 30 * 60_000;

interface Subject {
  readonly path: string;
  readonly bytes: number;
  readonly expected: string;
  readonly digest: (signal: AbortSignal) => Promise<string>;
  readonly fix: string;
}

async function subjects({ paths, runner }: DoctorContext): Promise<readonly Subject[]> {
  const found: Subject[] = [];
  for (const name of await listDir(paths.kernelsDir)) {
    const dir = join(paths.kernelsDir, name);
    const manifest = await readKernelManifest(dir).catch(() => undefined);
    if (manifest === undefined) continue;
    const { file, sizeBytes, sha256 } = manifest.vmlinux;
    const path = join(dir, file);
    const digest = (signal: AbortSignal): Promise<string> => fileDigest(path, signal);
    const fix = `remove ${dir}: the next image or VM that needs it builds it again`;
    found.push({ path, bytes: sizeBytes, expected: sha256, digest, fix });
  }
  for (const name of await listDir(paths.imagesDir)) {
    const dir = join(paths.imagesDir, name);
    const manifest = await readImageManifest(dir).catch(() => undefined);
    if (manifest === undefined) continue;
    const { file, sizeBytes, sha256 } = manifest.rootfs;
    const path = join(dir, file);
    const digest = (signal: AbortSignal): Promise<string> => sparseDigest(path, runner, signal);
    const fix = `delete the VMs that stand on it, then: banger image build ${name} --force`;
    found.push({ path, bytes: sizeBytes, expected: sha256, digest, fix });
  }
  for (const name of await listDir(paths.initramfsDir)) {
    if (!/^[0-9a-f]{64}\.cpio$/.test(name)) continue;
    const path = join(paths.initramfsDir, name);
    const digest = (signal: AbortSignal): Promise<string> => fileDigest(path, signal);
    found.push({
      path,
      bytes: 0,
      expected: basename(name, '.cpio'),
      digest,
      fix: `rm ${path}; it is made again`,
    });
  }
  return found;
}

const digests: Check<DoctorContext> = {
  id: 'images.digests',
  group: 'images',
  title: 'digests of images, kernels and initramfs',
  timeoutMs: TIMEOUT_MS,
  deep: true,
  alone: true,
  run: async (context, signal) => {
    const all = await subjects(context);
    const total = all.reduce((sum, { bytes }) => sum + bytes, 0);
    const problems: Outcome[] = [];
    let done = 0;
    for (const { path, bytes, expected, digest, fix } of all) {
      context.progress({ step: 'images.digests', text: `reading ${path}`, done, total, unit: 'bytes' });
      const wrong = await digest(signal).then(
        (found) =>
          found === expected ? undefined : `has the digest ${found}, not ${expected}: it has changed`,
        (error: unknown) => `cannot be read: ${errorText(error)}`,
      );
      signal.throwIfAborted();
      if (wrong !== undefined) problems.push(failure(`${path} ${wrong}`, { fix }));
      done += bytes;
    }
    return orOk(
      problems,
      all.length === 0
        ? 'nothing to read'
        : counted(all.length, 'file is as it was made', 'files are as they were made'),
    );
  },
};

export const DIGEST_CHECKS: readonly Check<DoctorContext>[] = [digests];
