/** Bundles the two programs into dist/. */

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

const COMMON = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node24',
  sourcemap: 'linked',
  legalComments: 'none',
  logLevel: 'warning',
  metafile: true,
} as const;

/** The client starts at every command: one CommonJS file starts faster than a graph of modules, and caches better. */
async function bundleClient(outdir: string, define: Record<string, string>): Promise<readonly string[]> {
  const { metafile } = await build({
    ...COMMON,
    entryPoints: ['src/main/banger.ts'],
    outfile: join(outdir, 'banger.cjs'),
    format: 'cjs',
    minify: true,
    define: { ...define, 'import.meta.dirname': '__dirname', 'import.meta.filename': '__filename' },
  });
  return Object.keys(metafile.inputs);
}

async function bundleDaemon(outdir: string, define: Record<string, string>): Promise<readonly string[]> {
  const { metafile } = await build({
    ...COMMON,
    entryPoints: ['src/main/bangerd.ts', 'src/workspace/image-worker.ts'],
    entryNames: '[name]',
    outdir,
    format: 'esm',
    splitting: true,
    define,
    banner: {
      js: "import{createRequire as __cr}from'node:module';const require=__cr(import.meta.url);",
    },
  });
  return Object.keys(metafile.inputs);
}

async function bundle(outdir: string, buildId: string): Promise<ReadonlySet<string>> {
  rmSync(outdir, { recursive: true, force: true });
  const define = { __BANGER_BUILD__: JSON.stringify({ version, commit: commit(), builtAt, buildId }) };
  return new Set([...(await bundleClient(outdir, define)), ...(await bundleDaemon(outdir, define))]);
}

function digest(inputs: ReadonlySet<string>): string {
  const hash = createHash('sha256');
  // What esbuild defines is no file.
  const files = [...inputs].filter((path) => !path.startsWith('<'));
  for (const path of files.toSorted()) hash.update(readFileSync(join(root, path)));
  return hash.digest('hex').slice(0, 12);
}

const next = join(root, 'dist.next');
const last = join(root, 'dist.last');
const dist = join(root, 'dist');
const builtAt = new Date().toISOString();
rmSync(last, { recursive: true, force: true });
// The build's id is the digest of what went into it: the first pass finds the inputs, the second stamps them.
await bundle(next, digest(await bundle(next, '')));
try {
  renameSync(dist, last);
} catch (error) {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
}
renameSync(next, dist);
rmSync(last, { recursive: true, force: true });
