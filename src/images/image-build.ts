/**
 * Builds an image from a distribution's own signed packages, without root and without mounting anything:
 * mmdebstrap → tar → tree with the recipe's edits → ext4 → `images/<name>/{rootfs.ext4,manifest.json}`.
 */

import { createReadStream } from 'node:fs';
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import type { ImageManifest } from '../core/model/image.ts';
import { assertImageName } from '../core/names.ts';
import { now } from '../host/clock.ts';
import type { CommandRunner } from '../host/runner.ts';
import { type AptSource, findSources } from './apt-sources.ts';
import { createBuildSpace, requireFreeSpace } from './build-space.ts';
import { debianEdits, IMAGE_RECIPES, type ImageRecipe } from './debian-recipe.ts';
import { installedPackages } from './dpkg-status.ts';
import { checkExt4, writeExt4 } from './ext4.ts';
import { hostArch } from './host-arch.ts';
import { formatManifest, MANIFEST_FILE, MANIFEST_VERSION, readImageManifest } from './manifests.ts';
import { requireMmdebstrap, runMmdebstrap } from './mmdebstrap.ts';
import { translateFsError } from './no-space.ts';
import type { OnImageProgress } from './progress.ts';
import { createDraft, createTempDir } from '../host/drafts.ts';
import { sparseDigest } from '../host/sparse-digest.ts';
import { readTar } from './tar-read.ts';
import { requireTools } from './tools.ts';
import { Tree } from './tree.ts';
import { applyEdits } from './tree-edit.ts';

export { IMAGE_RECIPES } from './debian-recipe.ts';

export interface BuildImageOptions {
  /** One of IMAGE_RECIPES. */
  readonly name: string;
  /** Where `<name>/` appears; what is there under that name is replaced. */
  readonly imagesDir: string;
  /** Working space of some 600 MB; what is put there is removed again. */
  readonly scratchDir: string;
  /** The kernel the image is to boot with; goes into the manifest. */
  readonly kernelName: string;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
  readonly onProgress: OnImageProgress;
  /** Last look before the new image takes the place of an old one; what it throws ends the build. */
  readonly beforePublish?: () => void;
}

const ROOTFS_FILE = 'rootfs.ext4';
const VIRTUAL_SIZE_BYTES = 8 * 1024 ** 3;
const TREE_LIMITS = { maxEntries: 200_000, maxTotalBytes: 4 * 1024 ** 3 };
const WORK_SPACE_BYTES = 900 * 1024 ** 2;
const RESULT_SPACE_BYTES = 900 * 1024 ** 2;

/**
 * Builds and publishes an image. Aborting the signal leaves nothing behind.
 * @throws {BangerError} `bad_request` (name), `not_found` (no such recipe), `unsupported` (architecture),
 *   `dependency_missing`, `build_failed`, `no_space`, `cancelled`, `timeout`
 */
export async function buildImage(options: BuildImageOptions): Promise<ImageManifest> {
  assertImageName(options.name);
  const recipe = IMAGE_RECIPES[options.name];
  if (recipe === undefined)
    throw new BangerError('not_found', `banger has no recipe for an image "${options.name}"`);
  const arch = hostArch();
  if (arch === undefined)
    throw new BangerError('unsupported', `no images are built for ${process.arch} hosts`);
  await requireTools([
    { program: 'mke2fs', packageName: 'e2fsprogs' },
    { program: 'debugfs', packageName: 'e2fsprogs' },
    { program: 'qemu-img', packageName: 'qemu-utils' },
  ]);
  await requireMmdebstrap();
  try {
    return await build(options, recipe, arch);
  } catch (error) {
    if (options.signal.aborted) {
      throw new BangerError('cancelled', `building image "${options.name}" was cancelled`, { cause: error });
    }
    throw translateFsError(error, options.imagesDir);
  }
}

async function build(
  options: BuildImageOptions,
  recipe: ImageRecipe,
  arch: 'amd64' | 'arm64',
): Promise<ImageManifest> {
  const { name, imagesDir, runner, signal, onProgress } = options;
  await using draft = await createDraft(imagesDir, name);
  await using scratch = await createTempDir(options.scratchDir, 'image');
  await requireFreeSpace(imagesDir, RESULT_SPACE_BYTES);
  const sources = await findSources(recipe.release, runner, signal);
  const tarPath = join(scratch.dir, 'rootfs.tar');
  await bootstrap(options, recipe, sources, scratch.dir, tarPath);

  onProgress({ step: 'unpack', text: 'arranging the files' });
  const tree = await buildTree(join(scratch.dir, 'tree'), tarPath, sources, options);
  await rm(tarPath);
  const packages = installedPackages(await readFile(join(tree.dir, 'var/lib/dpkg/status'), 'utf8'));

  onProgress({ step: 'filesystem', text: 'writing the file system' });
  const imagePath = join(draft.dir, ROOTFS_FILE);
  await writeExt4({
    tree,
    imagePath,
    virtualSizeBytes: VIRTUAL_SIZE_BYTES,
    scratchDir: scratch.dir,
    runner,
    signal,
  });
  onProgress({ step: 'check', text: 'checking the file system' });
  await checkExt4(imagePath, runner, signal);

  const manifest: ImageManifest = {
    manifestVersion: MANIFEST_VERSION,
    name,
    distro: recipe.distro,
    arch,
    kernelName: options.kernelName,
    rootfs: {
      file: ROOTFS_FILE,
      format: 'raw',
      sizeBytes: (await stat(imagePath)).blocks * 512,
      virtualSizeBytes: VIRTUAL_SIZE_BYTES,
      sha256: await sparseDigest(imagePath, runner, signal),
    },
    source: `debian:${recipe.release} ${[...new Set(sources.map(({ uri }) => uri))].join(' ')}`,
    builtAt: now(),
    packages,
  };
  await writeFile(join(draft.dir, MANIFEST_FILE), formatManifest(manifest));
  options.beforePublish?.();
  onProgress({ step: 'publish', text: 'publishing the image' });
  signal.throwIfAborted();
  if (await draft.publish()) return manifest;
  return (await readImageManifest(join(imagesDir, name))) ?? manifest;
}

/** Installs the recipe's packages and leaves them as a tar. */
async function bootstrap(
  options: BuildImageOptions,
  recipe: ImageRecipe,
  sources: readonly AptSource[],
  scratchDir: string,
  tarPath: string,
): Promise<void> {
  const { runner, signal, onProgress } = options;
  await using space = await createBuildSpace(runner);
  await requireFreeSpace(space.dir, WORK_SPACE_BYTES);
  const { release, packages } = recipe;
  const workDir = space.dir;
  await runMmdebstrap({
    release,
    packages,
    sources,
    workDir,
    tarPath,
    scratchDir,
    runner,
    signal,
    onProgress,
  });
}

async function buildTree(
  dir: string,
  tarPath: string,
  sources: readonly AptSource[],
  { signal }: BuildImageOptions,
): Promise<Tree> {
  await mkdir(dir, { mode: 0o700 });
  const tree = new Tree(dir, TREE_LIMITS);
  for await (const entry of readTar(createReadStream(tarPath, { highWaterMark: 1024 * 1024, signal }))) {
    await tree.add(entry);
  }
  await applyEdits(tree, debianEdits(sources), Math.floor(Date.now() / 1000));
  await tree.seal();
  return tree;
}
