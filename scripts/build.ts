/** Bundles the two programs into dist/, one file each plus the chunks of lazily loaded commands. */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

/** The commit this is built from, with a mark when the tree differs from it; outside a checkout: unknown. */
function commit(): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    const dirty = git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '-dirty';
    return `${git('rev-parse', '--short=12', 'HEAD')}${dirty}`;
  } catch {
    return 'unknown';
  }
}

async function bundle(outdir: string, builtAt: string, buildId: string): Promise<string> {
  const result = await build({
    absWorkingDir: root,
    entryPoints: ['src/main/banger.ts', 'src/main/bangerd.ts', 'src/workspace/image-worker.ts'],
    entryNames: '[name]',
    outdir,
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    minifySyntax: true,
    minifyWhitespace: true,
    sourcemap: 'linked',
    legalComments: 'none',
    logLevel: 'warning',
    metafile: true,
    banner: {
      js: "import{createRequire as __cr}from'node:module';const require=__cr(import.meta.url);",
    },
    define: { __BANGER_BUILD__: JSON.stringify({ version, commit: commit(), builtAt, buildId }) },
  });
  const hash = createHash('sha256');
  for (const path of Object.keys(result.metafile.inputs).sort()) {
    if (!path.startsWith('<')) hash.update(readFileSync(join(root, path.replace(/^[a-z-]+:/, ''))));
  }
  return hash.digest('hex').slice(0, 12);
}

const next = join(root, 'dist.next');
const last = join(root, 'dist.last');
const dist = join(root, 'dist');
for (const dir of [next, last]) rmSync(dir, { recursive: true, force: true });
const builtAt = new Date().toISOString();
// The build's id is the digest of what went into it: the first pass finds the inputs, the second stamps them.
const buildId = await bundle(next, builtAt, '');
rmSync(next, { recursive: true, force: true });
await bundle(next, builtAt, buildId);
try {
  renameSync(dist, last);
} catch (error) {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
}
renameSync(next, dist);
rmSync(last, { recursive: true, force: true });
