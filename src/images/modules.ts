/**
 * Picks the kernel modules a guest needs and puts them in loading order. Pure.
 *
 * Module names: `-` and `_` are the same character to the kernel (modprobe.d(5)); here they are always `_`.
 */

import { BangerError } from '../core/errors.ts';
import { elfSection } from './elf-section.ts';

export interface ModuleInfo {
  /** Normalised, without `.ko`. */
  readonly name: string;
  /** Names of the modules that must be loaded before it. */
  readonly depends: readonly string[];
}

/** What every guest uses, whatever bus its devices sit on: console channel, disk, network, entropy, and the workspace disk's file systems. */
const COMMON = ['virtio_console', 'virtio_blk', 'virtio_net', 'virtio_rng', 'overlay', 'squashfs'] as const;

/** The modules asked for per transport; what they depend on is found out. */
export const WANTED_MODULES = {
  mmio: ['virtio_mmio', ...COMMON],
  pci: ['virtio_pci', ...COMMON],
  /** Beside those of a transport. */
  vsock: ['vmw_vsock_virtio_transport'],
} as const;

const MAX_NAME_CHARS = 255;

/** `kernel/drivers/char/hw_random/virtio-rng.ko` → `virtio_rng`. */
export function moduleNameOf(path: string): string {
  const file = path.slice(path.lastIndexOf('/') + 1);
  return file.replace(/\.ko(\.(xz|gz|zst))?$/, '').replaceAll('-', '_');
}

/** Names from a kernel's `modules.builtin`: what is in the kernel itself and has no file. */
export function parseBuiltinModules(text: string): ReadonlySet<string> {
  const lines = text.split('\n').map((line) => line.trim());
  return new Set(lines.filter((line) => line.endsWith('.ko')).map(moduleNameOf));
}

/**
 * The `depends` of a module file, read from its `.modinfo` section (NUL-separated `key=value`; include/linux/moduleinfo.h).
 * @throws {BangerError} `bad_request` when the bytes are no module
 */
export function parseModuleInfo(path: string, bytes: Uint8Array): ModuleInfo {
  const section = elfSection(bytes, '.modinfo');
  if (section === undefined) {
    throw new BangerError('bad_request', `${path} is not a kernel module: it has no .modinfo section`);
  }
  const depends: string[] = [];
  for (const entry of Buffer.from(section).toString('latin1').split('\0')) {
    if (!entry.startsWith('depends=')) continue;
    for (const name of entry.slice('depends='.length).split(',')) {
      if (name !== '' && name.length <= MAX_NAME_CHARS) depends.push(moduleNameOf(name));
    }
  }
  return { name: moduleNameOf(path), depends };
}

/**
 * The wanted modules with everything they depend on, each after its dependencies, each once. What is built in is left
 * out. The order depends on the arguments only.
 * @param load called once per module that is not built in; undefined when there is no such module file
 * @throws {BangerError} `not_found` (a module that is neither a file nor built in), `bad_request` (a dependency cycle)
 */
export async function loadOrder(
  wanted: readonly string[],
  builtin: ReadonlySet<string>,
  load: (name: string) => Promise<ModuleInfo | undefined>,
): Promise<readonly ModuleInfo[]> {
  const ordered: ModuleInfo[] = [];
  const state = new Map<string, 'visiting' | 'done'>();

  const visit = async (name: string, neededBy: readonly string[]): Promise<void> => {
    if (builtin.has(name) || state.get(name) === 'done') return;
    const chain = [...neededBy, name];
    if (state.get(name) === 'visiting') {
      throw new BangerError('bad_request', `kernel modules depend on each other: ${chain.join(' → ')}`);
    }
    state.set(name, 'visiting');
    const info = await load(name);
    if (info === undefined) {
      throw new BangerError('not_found', `the kernel has no module ${name} (needed as ${chain.join(' → ')})`);
    }
    for (const dependency of info.depends) await visit(dependency, chain);
    state.set(name, 'done');
    ordered.push(info);
  };

  for (const name of wanted) await visit(moduleNameOf(name), []);
  return ordered;
}
