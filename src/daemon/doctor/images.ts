/** Checks of images and kernels: rows against directories, directories against their manifests. */

import { readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../core/errors.ts';
import type { ImageManifest, KernelManifest } from '../../core/model/image.ts';
import { listDir } from '../../host/files.ts';
import { readImageManifest, readKernelManifest } from '../../images/manifests.ts';
import { type Check, failure, info, type Outcome, orOk, warning } from './check.ts';
import type { DoctorContext, ImageFacts } from './context.ts';
import { DIGEST_CHECKS } from './digests.ts';
import { TEMPLATE_CHECKS } from './templates.ts';
import { deadTemporaries, isTemporary, sweep } from './temporaries.ts';

const DATABASE_UNREADABLE = 'not looked at: the database cannot be read';
const TIMEOUT_MS = 15_000;

const files: Check<DoctorContext> = {
  id: 'images.files',
  group: 'images',
  title: 'images',
  timeoutMs: TIMEOUT_MS,
  run: async (context) => {
    const rows = await context.rows();
    if (rows === undefined) return info(DATABASE_UNREADABLE);
    const problems: Outcome[] = [];
    for (const image of rows.images) problems.push(...(await imageProblems(image, context)));
    const names = rows.images.map(({ name }) => name).join(', ');
    return orOk(problems, names === '' ? 'none yet' : `whole: ${names}`);
  },
};

async function imageProblems(image: ImageFacts, context: DoctorContext): Promise<readonly Outcome[]> {
  const fix = `banger image build ${image.name} makes it again; VMs that stand on it need these very files`;
  const wrong = await wrongWith(image, context);
  return wrong.map((what) => failure(`image ${JSON.stringify(image.name)}: ${what}`, { fix }));
}

async function wrongWith(
  { artifactDir, rootfsPath, kernelPath }: ImageFacts,
  { paths }: DoctorContext,
): Promise<readonly string[]> {
  let manifest: ImageManifest | undefined;
  try {
    manifest = await readImageManifest(artifactDir);
  } catch (error) {
    return [errorText(error)];
  }
  if (manifest === undefined) return [`${artifactDir} has no manifest`];
  const rootfs = await rootfsProblem(artifactDir, manifest);
  const wrong = rootfs === undefined ? [] : [rootfs];
  const kernelDir = join(paths.kernelsDir, manifest.kernelName);
  // A damaged kernel is told by the check of kernels.
  const kernel = await readKernelManifest(kernelDir).catch(() => 'damaged' as const);
  const hasKernel = kernel !== undefined;
  if (!hasKernel) wrong.push(`its kernel ${JSON.stringify(manifest.kernelName)} is missing in ${kernelDir}`);
  for (const path of [rootfs === undefined ? rootfsPath : null, hasKernel ? kernelPath : null]) {
    if (path !== null && (await sizeOf(path)) === undefined)
      wrong.push(`its row names ${path}, which is not there`);
  }
  return wrong;
}

/** Undefined: as the manifest says. A raw file has its virtual size, whatever of it is holes. */
async function rootfsProblem(dir: string, { rootfs }: ImageManifest): Promise<string | undefined> {
  const path = join(dir, rootfs.file);
  const size = await sizeOf(path);
  if (size === undefined) return `${path} is missing`;
  const wanted = rootfs.format === 'raw' ? rootfs.virtualSizeBytes : rootfs.sizeBytes;
  return size === wanted ? undefined : `${path} has ${size} bytes; its manifest says ${wanted}`;
}

/** Undefined when there is no such regular file. */
async function sizeOf(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true ? found.size : undefined;
}

const kernels: Check<DoctorContext> = {
  id: 'images.kernels',
  group: 'images',
  title: 'kernels',
  timeoutMs: TIMEOUT_MS,
  run: async ({ paths }) => {
    const problems: Outcome[] = [];
    const names = await published(paths.kernelsDir);
    for (const name of names) {
      const dir = join(paths.kernelsDir, name);
      const wrong = await kernelProblem(dir);
      if (wrong === undefined) continue;
      const fix = `remove ${dir}: the next image or VM that needs it builds it again`;
      problems.push(failure(`kernel ${JSON.stringify(name)}: ${wrong}`, { fix }));
    }
    return orOk(problems, names.length === 0 ? 'none yet' : `whole: ${names.join(', ')}`);
  },
};

async function kernelProblem(dir: string): Promise<string | undefined> {
  let manifest: KernelManifest | undefined;
  try {
    manifest = await readKernelManifest(dir);
  } catch (error) {
    return errorText(error);
  }
  if (manifest === undefined) return `${dir} has no manifest`;
  const { vmlinux, modules } = manifest;
  const path = join(dir, vmlinux.file);
  const size = await sizeOf(path);
  if (size === undefined) return `${path} is missing`;
  if (size !== vmlinux.sizeBytes) return `${path} has ${size} bytes; its manifest says ${vmlinux.sizeBytes}`;
  for (const module of new Set([...modules.mmio, ...modules.pci, ...(modules.vsock ?? [])])) {
    if ((await sizeOf(join(dir, module))) === undefined) return `${join(dir, module)} is missing`;
  }
  return undefined;
}

/** Names of published directories: temporaries of builds begin with a dot. */
async function published(dir: string): Promise<readonly string[]> {
  return (await listDir(dir)).filter((name) => !name.startsWith('.'));
}

const unregistered: Check<DoctorContext> = {
  id: 'images.unregistered',
  group: 'images',
  title: 'images without a row',
  timeoutMs: TIMEOUT_MS,
  run: async (context) => {
    const { imagesDir } = context.paths;
    const rows = await context.rows();
    if (rows === undefined) return info(DATABASE_UNREADABLE);
    const known = new Set(rows.images.map(({ artifactDir }) => artifactDir));
    const strangers = (await published(imagesDir)).filter((name) => !known.has(join(imagesDir, name)));
    const outcomes = strangers.map((name) =>
      info(`${join(imagesDir, name)} belongs to no row of the database`, {
        fix: `banger state rebuild adds it, and so does the first VM with --image ${name}`,
      }),
    );
    return orOk(outcomes, 'none');
  },
};

const initramfs: Check<DoctorContext> = {
  id: 'images.initramfs',
  group: 'images',
  title: 'initramfs cache',
  timeoutMs: TIMEOUT_MS,
  run: async ({ paths }) => {
    const { initramfsDir } = paths;
    const problems: Outcome[] = [];
    const names = await published(initramfsDir);
    const archives = names.filter((name) => /^[0-9a-f]{64}\.cpio$/.test(name));
    for (const name of archives) {
      const path = join(initramfsDir, name);
      if ((await sizeOf(path)) !== 0) continue;
      problems.push(
        failure(`${path} is empty: guests cannot start with it`, { fix: `rm ${path}; it is made again` }),
      );
    }
    const index = join(initramfsDir, 'by-inputs');
    for (const name of await published(index)) {
      const target = await readlink(join(index, name)).catch(() => '');
      if (target !== '' && (await sizeOf(join(index, target))) !== undefined) continue;
      problems.push(info(`${join(index, name)} leads nowhere: the next VM makes that initramfs again`));
    }
    return orOk(problems, archives.length === 0 ? 'empty' : `${archives.length} kept`);
  },
};

const scratch: Check<DoctorContext> = {
  id: 'images.scratch',
  group: 'images',
  title: 'leftovers of builds',
  timeoutMs: TIMEOUT_MS,
  run: async ({ paths }) => {
    const problems: Outcome[] = [];
    const places = [paths.scratchDir, paths.imagesDir, paths.kernelsDir, paths.cacheDir, paths.initramfsDir];
    for (const dir of [...places, join(paths.initramfsDir, 'by-inputs')]) {
      const left = await deadTemporaries(dir);
      if (left.length === 0) continue;
      const found = `${dir} holds ${left.length} that dead processes left: ${left.slice(0, 3).join(', ')}`;
      problems.push(warning(found, { fix: 'the next build removes them', repair: sweep(dir) }));
    }
    const strange = (await listDir(paths.scratchDir)).filter((name) => !isTemporary(name));
    if (strange.length > 0) {
      const found = `${paths.scratchDir} holds what no build of banger made: ${strange.slice(0, 3).join(', ')}`;
      problems.push(info(found, { fix: 'remove it if it is not yours' }));
    }
    return orOk(problems, 'none');
  },
};

export const IMAGE_CHECKS: readonly Check<DoctorContext>[] = [
  files,
  kernels,
  unregistered,
  initramfs,
  scratch,
  ...DIGEST_CHECKS,
  ...TEMPLATE_CHECKS,
];
