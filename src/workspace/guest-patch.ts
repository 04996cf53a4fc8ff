/** The guest's changes as a patch that git can apply: binary-safe, made by git in the guest. */

import { BangerError } from '../core/errors.ts';
import { type GuestRepo, guestGit } from './guest-git-runner.ts';
import type { GuestTree } from './guest-tree.ts';

/** More is most likely a build's output that nothing ignores. */
const MAX_PATCH_BYTES = 8 * 1024 ** 3;

/** @throws {BangerError} `not_found` */
export async function resolveGuestCommit(repo: GuestRepo, name: string): Promise<string> {
  const found = await guestGit(
    repo,
    ['rev-parse', '--quiet', '--verify', '--end-of-options', `${name}^{commit}`],
    { okStatuses: [0, 1, 128] },
  );
  const oid = found.stdout.toString('latin1').trim();
  if (found.status === 0 && /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(oid)) return oid;
  throw new BangerError('not_found', `the repository in the VM has no commit ${name}`, {
    hint: 'its history is cut off at the 10th generation; git log in the VM lists what it has',
  });
}

/** How many commits HEAD has that `base` has not. A branch without a commit has none. */
export async function countGuestCommits(repo: GuestRepo, base: string): Promise<number> {
  const counted = await guestGit(repo, ['rev-list', '--count', 'HEAD', `^${base}`, '--'], {
    okStatuses: [0, 128],
  });
  const text = counted.stdout.toString('latin1').trim();
  return /^\d{1,9}$/.test(text) ? Number(text) : 0;
}

/**
 * Writes the patch from `base` to the guest's files. In it a rename is a deletion and an addition, so that it applies whatever
 * tool reads it. What the guest's configuration says of diffs does not matter.
 * @returns its size
 */
export async function pourPatch(
  tree: GuestTree,
  base: string,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<number> {
  let bytes = 0;
  const format = [
    '--patch',
    '--binary',
    '--full-index',
    '--no-renames',
    '--unified=3',
    '--inter-hunk-context=0',
  ];
  const plain = ['--no-ext-diff', '--no-textconv', '--no-color', '--src-prefix=a/', '--dst-prefix=b/'];
  await tree.git(['diff-index', '--cached', ...format, ...plain, base], {
    maxOutputBytes: MAX_PATCH_BYTES,
    onStdout: async (chunk) => {
      bytes += chunk.length;
      await write(chunk);
    },
  });
  return bytes;
}
