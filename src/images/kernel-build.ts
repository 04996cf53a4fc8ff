/**
 * Makes a kernel from Debian's cloud kernel package: the ELF vmlinux out of its bzImage, and the few modules a guest
 * needs, published as `kernels/<name>/{vmlinux,modules/*.ko,manifest.json}`.
 */

import { createHash } from 'node:crypto';
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import type { KernelManifest } from '../core/model/image.ts';
import { assertImageName } from '../core/names.ts';
import { now } from '../host/clock.ts';
import type { CommandRunner } from '../host/runner.ts';
import { createAptRoot } from './apt-root.ts';
import { findSources } from './apt-sources.ts';
import { unpackDeb } from './deb.ts';
import { decompress } from './decompress.ts';
import { hostArch } from './host-arch.ts';
import { formatManifest, MANIFEST_FILE, MANIFEST_VERSION, readKernelManifest } from './manifests.ts';
import { loadOrder, moduleNameOf, parseBuiltinModules, parseModuleInfo, WANTED_MODULES } from './modules.ts';
import { translateFsError } from './no-space.ts';
import type { OnImageProgress } from './progress.ts';
import { createDraft, createTempDir } from '../host/drafts.ts';
import { checkVmlinux, findKernelPayload } from './vmlinux.ts';

/** The kernel every image made here boots with. */
export const DEFAULT_KERNEL_NAME = 'debian-bookworm-cloud';
const RELEASE = 'bookworm';
const META_PACKAGE = 'linux-image-cloud-amd64';
const KERNEL_PACKAGE = /^linux-image-(\d+\.\d+\.\d+-\d+-cloud-amd64) \(= ([^)\s]+)\)$/;
const MODULES_DIR = 'modules';
const VMLINUX_FILE = 'vmlinux';

export interface BuildKernelOptions {
  readonly name: string;
  /** Where `<name>/` appears. */
  readonly kernelsDir: string;
  /** Working space of some 300 MB; what is put there is removed again. */
  readonly scratchDir: string;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
  readonly onProgress: OnImageProgress;
}

/**
 * Builds and publishes the kernel; when another process published the same name first, that one is returned.
 * @throws {BangerError} `bad_request` (name), `unsupported` (architecture), `dependency_missing`, `build_failed`
 *   (mirror, apt), `no_space`, `cancelled`
 */
export async function buildKernel(options: BuildKernelOptions): Promise<KernelManifest> {
  assertImageName(options.name, 'kernel');
  if (hostArch() !== 'amd64') throw new BangerError('unsupported', 'kernels are built for x86-64 hosts only');
  try {
    await using temp = await createTempDir(options.scratchDir, 'kernel');
    const work = temp.dir;
    const fetched = await fetchKernelPackage(options, work);
    return await assemble(options, join(work, 'tree'), fetched);
  } catch (error) {
    if (options.signal.aborted) {
      throw new BangerError('cancelled', `building kernel "${options.name}" was cancelled`, { cause: error });
    }
    throw translateFsError(error, options.kernelsDir);
  }
}

interface FetchedKernel {
  readonly debPath: string;
  /** `uname -r`. */
  readonly release: string;
  readonly source: string;
}

async function fetchKernelPackage(options: BuildKernelOptions, work: string): Promise<FetchedKernel> {
  const { runner, signal, onProgress } = options;
  onProgress({ step: 'index', text: "reading Debian's package index" });
  const aptDir = join(work, 'apt');
  await mkdir(aptDir);
  const sources = await findSources(RELEASE, runner, signal);
  const apt = await createAptRoot({ dir: aptDir, sources, arch: 'amd64', runner, signal, onProgress });
  await apt.update();
  const depends = (await apt.field(META_PACKAGE, 'Depends')) ?? '';
  const match = depends
    .split(', ')
    .map((item) => KERNEL_PACKAGE.exec(item))
    .find((found) => found !== null);
  const [, release, version] = match ?? [];
  if (release === undefined || version === undefined) {
    throw new BangerError('build_failed', `${META_PACKAGE} names no kernel package: Depends: ${depends}`);
  }
  onProgress({ step: 'fetch', text: `fetching kernel ${release}` });
  const debPath = await apt.download(`linux-image-${release}`, version);
  return { debPath, release, source: `debian:${RELEASE}/linux-image-${release}=${version}` };
}

/** Turns the package into the published directory. */
async function assemble(
  options: BuildKernelOptions,
  tree: string,
  kernel: FetchedKernel,
): Promise<KernelManifest> {
  const { runner, signal, onProgress, name } = options;
  onProgress({ step: 'unpack', text: `unpacking kernel ${kernel.release}` });
  await mkdir(tree);
  const modulesRoot = `lib/modules/${kernel.release}/`;
  const bzImageFile = `boot/vmlinuz-${kernel.release}`;
  const wanted = (entry: string) => entry === bzImageFile || entry.startsWith(modulesRoot);
  await unpackDeb({ debPath: kernel.debPath, targetDir: tree, wanted, runner, signal });

  await using draft = await createDraft(options.kernelsDir, name);
  onProgress({ step: 'vmlinux', text: 'extracting the kernel image' });
  const vmlinux = await extractVmlinux(await readFile(join(tree, bzImageFile)), { runner, signal });
  await writeFile(join(draft.dir, VMLINUX_FILE), vmlinux);
  const manifest: KernelManifest = {
    manifestVersion: MANIFEST_VERSION,
    name,
    distro: `debian-${RELEASE}`,
    arch: 'amd64',
    release: kernel.release,
    vmlinux: {
      file: VMLINUX_FILE,
      sizeBytes: vmlinux.length,
      sha256: createHash('sha256').update(vmlinux).digest('hex'),
    },
    modules: await copyModules(join(tree, modulesRoot), draft.dir),
    source: kernel.source,
    importedAt: now(),
  };
  await writeFile(join(draft.dir, MANIFEST_FILE), formatManifest(manifest));
  signal.throwIfAborted();
  const won = (await draft.publish()) ? manifest : await readKernelManifest(join(options.kernelsDir, name));
  return won ?? manifest;
}

/**
 * The ELF kernel inside a bzImage.
 * @throws {BangerError} `bad_request`, `dependency_missing` (a decompressor), `cancelled`
 */
export async function extractVmlinux(
  bzImage: Uint8Array,
  { runner, signal }: { readonly runner: CommandRunner; readonly signal: AbortSignal },
): Promise<Uint8Array> {
  const payload = findKernelPayload(bzImage);
  const limits = { runner, signal, maxPlainBytes: payload.plainSizeBytes };
  const vmlinux = await decompress(payload.compression, payload.bytes, limits);
  checkVmlinux(vmlinux, payload.plainSizeBytes);
  return vmlinux;
}

/** Copies the modules of every transport and says in which order to load them. */
async function copyModules(modulesRoot: string, draftDir: string): Promise<KernelManifest['modules']> {
  const builtin = parseBuiltinModules(await readFile(join(modulesRoot, 'modules.builtin'), 'utf8'));
  const files = await indexModuleFiles(modulesRoot);
  const load = async (name: string) => {
    const path = files.get(name);
    return path === undefined ? undefined : parseModuleInfo(path, await readFile(path));
  };
  await mkdir(join(draftDir, MODULES_DIR));
  const place = async (
    wanted: readonly string[],
    loaded: readonly string[] = [],
  ): Promise<readonly string[]> => {
    const placed: string[] = [];
    const present = new Set([...builtin, ...loaded.map(moduleNameOf)]);
    for (const { name } of await loadOrder(wanted, present, load)) {
      const file = join(MODULES_DIR, `${name}.ko`);
      const source = files.get(name);
      if (source === undefined) throw new Error(`module ${name} was read and has no file`);
      await copyFile(source, join(draftDir, file));
      placed.push(file);
    }
    return placed;
  };
  const mmio = await place(WANTED_MODULES.mmio);
  return { mmio, pci: await place(WANTED_MODULES.pci), vsock: await place(WANTED_MODULES.vsock, mmio) };
}

async function indexModuleFiles(modulesRoot: string): Promise<ReadonlyMap<string, string>> {
  const files = new Map<string, string>();
  for (const entry of await readdir(modulesRoot, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.ko')) continue;
    files.set(moduleNameOf(entry.name), join(entry.parentPath, entry.name));
  }
  return files;
}
