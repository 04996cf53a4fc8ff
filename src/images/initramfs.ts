/**
 * The initramfs a guest boots with: the agent as /init and the modules its transport needs. Uncompressed, because
 * unpacking costs more in an emulated guest than reading does (guest.md's measurements).
 */

import { createHash } from 'node:crypto';
import { mkdir, readFile, readlink, rename, stat, symlink, unlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import type { KernelManifest } from '../core/model/image.ts';
import { sweepTemporaries, temporaryPath, writeFileAtomic } from '../host/files.ts';
import { type CpioEntry, writeCpio } from './cpio.ts';
import { MANIFEST_FILE } from './manifests.ts';
import { isErrno } from '../host/drafts.ts';

export interface EnsureInitramfsOptions {
  /** Directory of the kernel, with its manifest and modules. */
  readonly kernelDir: string;
  readonly kernel: KernelManifest;
  /** The static agent binary. */
  readonly agentPath: string;
  readonly transport: 'mmio' | 'pci';
  /** What leads to the agent; default `console`. */
  readonly channel?: 'console' | 'vsock';
  /** Holds `<sha256>.cpio` and `by-inputs/`; made when missing. */
  readonly cacheDir: string;
}

export interface Initramfs {
  readonly path: string;
  /** sha256 of the file, hex: what a template's key depends on. */
  readonly digest: string;
}

/** Part of the fast index's key: an old index must not answer for a new layout. */
const LAYOUT_VERSION = 1;
const MAX_AGENT_BYTES = 64 * 1024 * 1024;
/** Mount points of the early boot; the agent makes no directory itself. */
const DIRECTORIES = ['dev', 'proc', 'sys', 'run', 'tmp', 'newroot', 'modules'] as const;

/**
 * The path of the initramfs for these inputs, made when it is not there yet. When it is, this costs three stat calls and
 * a readlink: the inputs are told apart by inode, size and times, and the file is named by its own digest.
 * @throws {BangerError} `not_found` (agent or a module), `no_space`, `io_error`
 */
export async function ensureInitramfs(options: EnsureInitramfsOptions): Promise<Initramfs> {
  const indexPath = join(options.cacheDir, 'by-inputs', await inputsKey(options));
  const known = await lookUp(options.cacheDir, indexPath);
  if (known !== undefined) return known;
  await mkdir(join(options.cacheDir, 'by-inputs'), { recursive: true, mode: 0o700 });
  await sweepTemporaries(options.cacheDir);
  const bytes = writeCpio(await initramfsEntries(options));
  const digest = createHash('sha256').update(bytes).digest('hex');
  const path = join(options.cacheDir, `${digest}.cpio`);
  await writeFileAtomic(path, bytes, { mode: 0o644 });
  await replaceSymlink(`../${digest}.cpio`, indexPath);
  return { path, digest };
}

/** One that was made earlier, by its digest (hex). */
export async function findInitramfs(cacheDir: string, digest: string): Promise<Initramfs | undefined> {
  const path = join(cacheDir, `${digest}.cpio`);
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true ? { path, digest } : undefined;
}

/** The kernel's directory is published whole and never changed, so its manifest stands for the modules. */
async function inputsKey(options: EnsureInitramfsOptions): Promise<string> {
  const manifest = join(options.kernelDir, MANIFEST_FILE);
  const identities = await Promise.all([identity(options.agentPath), identity(manifest)]);
  // As it was before there was a choice, so that what is there is found.
  const channel = options.channel === 'vsock' ? [options.channel] : [];
  const inputs = [LAYOUT_VERSION, options.transport, ...channel, ...identities];
  return createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 32);
}

async function identity(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [path, dev, ino, size, mtimeNs, ctimeNs].join(' ');
  } catch (cause) {
    throw new BangerError('not_found', `cannot build the initramfs: ${path} is missing`, { cause });
  }
}

async function lookUp(cacheDir: string, indexPath: string): Promise<Initramfs | undefined> {
  try {
    const digest = basename(await readlink(indexPath), '.cpio');
    const path = join(cacheDir, `${digest}.cpio`);
    if (!/^[0-9a-f]{64}$/.test(digest) || !(await stat(path)).isFile()) return undefined;
    return { path, digest };
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'EINVAL')) return undefined;
    throw error;
  }
}

async function initramfsEntries(options: EnsureInitramfsOptions): Promise<readonly CpioEntry[]> {
  const { modules: known } = options.kernel;
  const modules = [...known[options.transport], ...(options.channel === 'vsock' ? (known.vsock ?? []) : [])];
  const entries: CpioEntry[] = DIRECTORIES.map((path) => ({ type: 'directory', path, mode: 0o755 }));
  // The kernel opens it for /init's standard streams before anything can mount a devtmpfs.
  entries.push({ type: 'character-device', path: 'dev/console', mode: 0o600, major: 5, minor: 1 });
  entries.push({ type: 'file', path: 'init', mode: 0o755, data: await readInput(options.agentPath) });
  for (const file of modules) {
    const data = await readInput(join(options.kernelDir, file));
    entries.push({ type: 'file', path: `modules/${basename(file)}`, mode: 0o644, data });
  }
  const order = modules.map((file) => `${basename(file)}\n`).join('');
  entries.push({ type: 'file', path: 'modules/order', mode: 0o644, data: Buffer.from(order) });
  return entries;
}

async function readInput(path: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(path);
    if (size > MAX_AGENT_BYTES)
      throw new BangerError('limit_exceeded', `${path} is too large: ${size} bytes`);
    return await readFile(path);
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT')) throw cause;
    throw new BangerError('not_found', `cannot build the initramfs: ${path} is missing`, { cause });
  }
}

async function replaceSymlink(target: string, path: string): Promise<void> {
  const temporary = temporaryPath(path);
  await symlink(target, temporary);
  try {
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary);
    throw error;
  }
}
