/** A place for new git objects beside a repository's own: nothing is written to the repository. */

import { join } from 'node:path';

export function objectsDirOf(scratchDir: string): string {
  return join(scratchDir, 'objects');
}

/** Git writes objects below `scratchDir`, and reads those of the repository, too. */
export function ownObjects(scratchDir: string, repoObjectsPath: string): Record<string, string> {
  return {
    GIT_OBJECT_DIRECTORY: objectsDirOf(scratchDir),
    GIT_ALTERNATE_OBJECT_DIRECTORIES: quotedPath(repoObjectsPath),
  };
}

/** In quotes a path may hold the character that separates paths (git(1), GIT_ALTERNATE_OBJECT_DIRECTORIES). */
export function quotedPath(path: string): string {
  return `"${path.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}
