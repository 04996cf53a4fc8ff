import assert from 'node:assert/strict';
import { chmodSync, lstatSync, mkdirSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  below,
  gitIn,
  initRepo,
  plan,
  shipAndUnpack,
  statusOf,
  temporaryDir,
  treeOf,
} from '../../test/helpers/host-repo.ts';
import { isSafePath, parentOf } from './byte-path.ts';

const BLOCK = 128 * 1024;

/** Any bytes, and among them the ones that tools stumble over. */
const name = fc
  .oneof(
    fc.uint8Array({ minLength: 1, maxLength: 8 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    fc.constantFrom('a', 'b', 'a-b', 'a.c', '-', '--', '\n', '"', "'", '\\', ' ', '$(x)', '.gitx', 'A', 'é'),
  )
  .map((text) => text.replaceAll(/[/\0]/g, '_'))
  // Read by git itself, and then they decide what is tracked and how it looks.
  .filter((text) => isSafePath(text) && !/^\.git/i.test(text));

const content = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7).map((size) => Buffer.alloc(size, `${size}`)),
);
const item = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('file' as const),
      content,
      mode: fc.constantFrom(0o644, 0o755),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('link' as const), target: name }) },
);
const tree = fc.array(fc.tuple(fc.array(name, { minLength: 1, maxLength: 4 }), item), {
  minLength: 1,
  maxLength: 25,
});
const change = fc.constantFrom('nothing', 'delete', 'rewrite', 'chmod', 'touch', 'to link', 'stage');

type Item = typeof item extends fc.Arbitrary<infer Value> ? Value : never;

/** False when a file already stands where a directory is needed, or the reverse. */
function put(dir: string, path: string, what: Item): boolean {
  try {
    mkdirSync(below(dir, parentOf(path)), { recursive: true });
    if (what.kind === 'link') symlinkSync(Buffer.from(what.target, 'latin1'), below(dir, path));
    else {
      writeFileSync(below(dir, path), what.content, { flag: 'wx' });
      chmodSync(below(dir, path), what.mode);
    }
    return true;
  } catch (error) {
    assert.match(String((error as NodeJS.ErrnoException).code), /^(EEXIST|ENOTDIR|EISDIR|ENOENT|ELOOP)$/);
    return false;
  }
}

async function apply(dir: string, path: string, what: string): Promise<void> {
  const full = below(dir, path);
  const isFile = lstatSync(full).isFile();
  if (what === 'delete') unlinkSync(full);
  if (what === 'rewrite' && isFile) writeFileSync(full, 'rewritten');
  if (what === 'chmod' && isFile) chmodSync(full, 0o700);
  if (what === 'to link') {
    rmSync(full);
    symlinkSync('anywhere', full);
  }
  if (what === 'stage' && isFile) {
    writeFileSync(full, 'staged');
    await gitIn(dir, 'add', '--update');
  }
}

test('whatever the repository holds, the guest has the same files and the same status', async (t) => {
  let number = 0;
  const base = await temporaryDir(t);
  await fc.assert(
    fc.asyncProperty(
      tree,
      tree,
      fc.array(change, { minLength: 1, maxLength: 10 }),
      async (first, later, changes) => {
        const repo = await initRepo(join(base, `repo-${(number += 1)}`));
        const placed = first.flatMap(([names, what]) =>
          put(repo.dir, names.join('/'), what) ? [names.join('/')] : [],
        );
        await repo.commit();
        for (const [index, path] of placed.entries()) {
          await apply(repo.dir, path, changes[index % changes.length] ?? 'nothing');
        }
        for (const [names, what] of later) put(repo.dir, names.join('/'), what);
        const planned = await plan(repo.dir, { includeUntracked: true });
        const guest = await shipAndUnpack(t, planned);
        assert.deepEqual(treeOf(guest), treeOf(repo.dir));
        assert.equal(await statusOf(guest), await statusOf(repo.dir));
        assert.equal(planned.files, treeOf(repo.dir).size);
      },
    ),
    { numRuns: 12, endOnFailure: true },
  );
});
