/**
 * Writes a tree into an ext4 file system image without root and without a mount: `mke2fs -d` copies the staging
 * directory, then one debugfs script gives owners, devices, attributes and the modes staging could not have.
 *
 * Facts this depends on: mke2fs takes the size from the file (a size argument counts other units); debugfs'
 * `set_inode_field mode` replaces the type bits too; debugfs exits 0 when a command fails and says so on stderr.
 */

import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import type { CommandRunner } from '../host/runner.ts';
import { toolEnv } from './tools.ts';
import { printable, type Tree, type TreeNode } from './tree.ts';

export interface WriteExt4Options {
  /** Sealed. */
  readonly tree: Tree;
  /** Must not exist. */
  readonly imagePath: string;
  readonly virtualSizeBytes: number;
  /** Existing directory for the script. */
  readonly scratchDir: string;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

const TIMEOUT_MS = 10 * 60_000;
const MAX_DEBUGFS_OUTPUT_BYTES = 256 * 1024 * 1024;
/**
 * Lazy initialisation saves writing tables of zeros into what is a hole already; "prezeroed" also tells the guest's
 * kernel so, or every VM would write them into its overlay after boot.
 */
const MKFS_EXTRAS = ['root_owner=0:0', 'lazy_itable_init=1', 'lazy_journal_init=1', 'nodiscard'];
const PREZEROED = 'assume_storage_prezeroed=1';

/** @throws {BangerError} `no_space`, `build_failed` (with the program's words), `cancelled` */
export async function writeExt4(options: WriteExt4Options): Promise<void> {
  await createSparseFile(options.imagePath, options.virtualSizeBytes);
  await makeFileSystem(options);
  const script = await debugfsScript(options.tree, options.scratchDir);
  if (script === '') return;
  const scriptPath = join(options.scratchDir, 'debugfs.script');
  await writeFile(scriptPath, script, 'latin1');
  const argv = ['debugfs', '-w', '-f', scriptPath, options.imagePath] as const;
  const { stderr } = await run(options, argv, [0], MAX_DEBUGFS_OUTPUT_BYTES);
  const complaints = stderr.split('\n').filter((line) => line !== '' && !/^debugfs \d/.test(line));
  if (complaints.length > 0) {
    throw new BangerError(
      'build_failed',
      `debugfs could not set file attributes: ${complaints.slice(-5).join('; ')}`,
    );
  }
}

/**
 * Checks a file system image without changing it.
 * @throws {BangerError} `build_failed` with e2fsck's findings
 */
export async function checkExt4(
  imagePath: string,
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<void> {
  const result = await run({ runner, signal }, ['e2fsck', '-f', '-n', imagePath], [0, 1, 2, 4, 8, 12]);
  if (result.status === 0) return;
  const findings = result.stdout.toString('utf8').trim().split('\n').slice(-8).join('\n');
  throw new BangerError(
    'build_failed',
    `the new file system is not clean (e2fsck ${result.status}): ${findings}`,
  );
}

async function createSparseFile(path: string, sizeBytes: number): Promise<void> {
  await using file = await open(path, 'wx', 0o644);
  await file.truncate(sizeBytes);
}

async function makeFileSystem(options: WriteExt4Options): Promise<void> {
  const { tree, imagePath } = options;
  const argv = (extras: readonly string[]) =>
    ['mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-m', '1', '-L', 'banger-root'].concat([
      '-E',
      extras.join(','),
      '-d',
      tree.dir,
      imagePath,
    ]) as [string, ...string[]];
  try {
    await run(options, argv([...MKFS_EXTRAS, PREZEROED]));
  } catch (error) {
    // Before e2fsprogs 1.47 the option is unknown.
    if (!(error instanceof BangerError) || !error.message.includes('assume_storage_prezeroed')) throw error;
    await run(options, argv(MKFS_EXTRAS));
  }
}

function run(
  { runner, signal }: { readonly runner: CommandRunner; readonly signal: AbortSignal },
  argv: readonly [string, ...string[]],
  okStatuses: readonly number[] = [0],
  maxOutputBytes = 16 * 1024 * 1024,
) {
  return runner.run(argv, { signal, timeoutMs: TIMEOUT_MS, env: toolEnv(), okStatuses, maxOutputBytes });
}

const TYPE_BITS = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
} as const;

/** The commands that turn what mke2fs copied into what the tree says. Values of attributes go to files in `scratchDir`. */
async function debugfsScript(tree: Tree, scratchDir: string): Promise<string> {
  const stagingUid = process.getuid?.() ?? 0;
  const stagingGid = process.getgid?.() ?? 0;
  const lines: string[] = [];
  let values = 0;
  for (const [path, node] of tree.nodes) {
    const target = quote(`/${path}`);
    const isNew = node.type === 'character' || node.type === 'block' || node.type === 'fifo';
    if (isNew) lines.push(...mknodLines(path, node));
    // mke2fs was told the owner of the root directory, and gives it no other attribute of the staging directory.
    const isRoot = path === '';
    const copied = !isNew && !isRoot;
    if (!copied || node.uid !== stagingUid) lines.push(`set_inode_field ${target} uid ${node.uid}`);
    if (!copied || node.gid !== stagingGid) lines.push(`set_inode_field ${target} gid ${node.gid}`);
    if (!copied || (node.type !== 'symlink' && node.mode !== tree.stagingMode(node))) {
      lines.push(`set_inode_field ${target} mode 0${(TYPE_BITS[node.type] | node.mode).toString(8)}`);
    }
    for (const [name, value] of node.xattrs) {
      const file = join(scratchDir, `xattr-${values++}`);
      await writeFile(file, value);
      lines.push(`ea_set -f ${quote(file)} ${target} ${quote(checkAttributeName(name))}`);
    }
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

function mknodLines(path: string, node: TreeNode): string[] {
  const slash = path.lastIndexOf('/');
  const kind =
    node.type === 'fifo' ? 'p' : `${node.type === 'block' ? 'b' : 'c'} ${node.major} ${node.minor}`;
  return [
    `cd ${quote(`/${path.slice(0, Math.max(slash, 0))}`)}`,
    `mknod ${quote(path.slice(slash + 1))} ${kind}`,
  ];
}

function checkAttributeName(name: string): string {
  if (/^[\w.@-]{1,255}$/.test(name)) return name;
  throw new BangerError(
    'bad_request',
    `an extended attribute has a name that is not allowed: ${printable(name)}`,
  );
}

/** debugfs reads words in double quotes, in which a quote is doubled (libss). Newlines were refused by the tree. */
function quote(word: string): string {
  return `"${word.replaceAll('"', '""')}"`;
}
