import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyTo, copyToGuest, type GuestCopy, lookAtGuest } from '../../test/helpers/guest-copy.ts';
import { initRepo, type TestRepo } from '../../test/helpers/host-repo.ts';
import { gitFingerprint } from '../../test/helpers/local-guest.ts';
import { THOROUGH } from '../../test/helpers/thorough.ts';
import { pourPatch } from './guest-patch.ts';

/** Each starts dozens of processes. */
const NUM_RUNS = THOROUGH ? 150 : 6;
/** Merged twice, what one side added looks like what the other removed, renamed. */
const LOOKS_RENAMED: [Start, Edit[], Edit[], Edit[]] = [
  { 'b/a/a': { content: ['three', 'three'], mode: 0o644 }, a: { content: [], mode: 0o644 } },
  [],
  [{ kind: 'link', path: 'b/a', target: 'a' }],
  [{ kind: 'write', path: '-x', content: ['three', 'three'], mode: 0o644 }],
];

/** Few names, so that paths meet: the same file on both sides, a file where the other has a directory. */
const names = fc.constantFrom('a', 'b', 'ü', 'new\nline', ' "q" ', '-x');
const path = fc.array(names, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
const content = fc.oneof(
  { weight: 4, arbitrary: fc.array(fc.constantFrom('one', 'two', 'three', ''), { maxLength: 12 }) },
  { weight: 1, arbitrary: fc.constant(['\0binary\xff']) },
);
type Content = readonly string[];
type Start = Readonly<Record<string, { readonly content: Content; readonly mode: number }>>;
type Edit =
  | { readonly kind: 'write'; readonly path: string; readonly content: Content; readonly mode: number }
  | { readonly kind: 'append' | 'prepend' | 'remove' | 'chmod'; readonly path: string }
  | { readonly kind: 'commit' }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  | { readonly kind: 'move'; readonly path: string; readonly to: string };
const mode = fc.constantFrom(0o644, 0o755);
const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), path, content, mode }),
  fc.record({
    kind: fc.constantFrom('append' as const, 'prepend', 'remove', 'chmod'),
    path,
  }),
  fc.constant({ kind: 'commit' as const }),
  fc.record({ kind: fc.constant('link' as const), path, target: fc.constantFrom('a', 'b/ü', '/nowhere') }),
  fc.record({ kind: fc.constant('move' as const), path, to: path }),
);
const files = fc.dictionary(path, fc.record({ content, mode }), {
  minKeys: 1,
  maxKeys: 8,
  noNullPrototype: true,
});

const bytesOf = (lines: Content): Buffer => Buffer.from(lines.map((line) => `${line}\n`).join(''), 'latin1');
const isThere = (full: string): boolean => lstatSync(full, { throwIfNoEntry: false }) !== undefined;

/** Makes room for a file as a person would: what is in the way goes. */
/** One side's file is the other's directory, and a rename is in it. */
const FILE_AND_DIRECTORY: [Start, Edit[], Edit[], Edit[]] = [
  { a: { content: [], mode: 0o644 } },
  [],
  [{ kind: 'move', path: 'a', to: '-x/a' }],
  [{ kind: 'write', path: '-x', content: ['\0binary'], mode: 0o644 }],
];

function makeRoom(dir: string, at: string): string {
  const parts = at.split('/');
  for (let length = 1; length < parts.length; length += 1) {
    const above = join(dir, ...parts.slice(0, length));
    if (isThere(above) && !lstatSync(above).isDirectory()) rmSync(above);
  }
  const full = join(dir, at);
  rmSync(full, { recursive: true, force: true });
  mkdirSync(dirname(full), { recursive: true });
  return full;
}

/** Not through links: those are files here. */
function isFile(dir: string, at: string): boolean {
  const parts = at.split('/');
  return parts.every((_, index) => {
    const found = lstatSync(join(dir, ...parts.slice(0, index + 1)), { throwIfNoEntry: false });
    return index < parts.length - 1 ? found?.isDirectory() === true : found?.isFile() === true;
  });
}

async function change(repo: TestRepo, edits: readonly Edit[], who: string): Promise<void> {
  for (const [number, one] of edits.entries()) {
    const line = Buffer.from(`${who} ${number}\n`);
    if (one.kind === 'commit') {
      await repo.commit(`${who} ${number}`);
      continue;
    }
    const full = join(repo.dir, one.path);
    if (one.kind === 'link') symlinkSync(one.target, makeRoom(repo.dir, one.path));
    else if (one.kind === 'write') {
      const bytes = Buffer.concat([bytesOf(one.content), line]);
      writeFileSync(makeRoom(repo.dir, one.path), bytes, { mode: one.mode });
    } else if (isFile(repo.dir, one.path)) changeFile(repo.dir, full, one, line);
  }
}

function changeFile(
  dir: string,
  full: string,
  one: Exclude<Edit, { kind: 'commit' | 'link' | 'write' }>,
  line: Buffer,
): void {
  const bytes = readFileSync(full);
  const { mode: bits } = lstatSync(full);
  if (one.kind === 'append') writeFileSync(full, Buffer.concat([bytes, line]));
  else if (one.kind === 'prepend') writeFileSync(full, Buffer.concat([line, bytes]));
  else if (one.kind === 'chmod') chmodSync(full, bits ^ 0o111);
  else {
    rmSync(full);
    if (one.kind === 'move') writeFileSync(makeRoom(dir, one.to), bytes, { mode: bits });
  }
}

/** path → what it is. Modes as git knows them. */
function filesOf(dir: string): Map<string, string> {
  const found = new Map<string, string>();
  const walk = (at: string): void => {
    for (const name of readdirSync(join(dir, at))) {
      const child = join(at, name);
      const full = join(dir, child);
      const stat = lstatSync(full);
      if (child === '.git') continue;
      if (stat.isDirectory()) walk(child);
      else if (stat.isSymbolicLink()) found.set(child, `link ${readlinkSync(full)}`);
      else
        found.set(child, `${(stat.mode & 0o100) === 0 ? 'file' : 'program'} ${readFileSync(full, 'latin1')}`);
    }
  };
  walk('');
  return found;
}

const sorted = (map: ReadonlyMap<string, string>): [string, string][] =>
  [...map].toSorted(([one], [other]) => (one < other ? -1 : 1));

async function inPair(
  start: Start,
  before: readonly Edit[],
  work: (host: TestRepo, guest: GuestCopy, dir: string) => Promise<void>,
): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'banger-merge-'));
  try {
    const host = await initRepo(join(dir, 'host'));
    for (const [at, one] of Object.entries(start))
      writeFileSync(makeRoom(host.dir, at), bytesOf(one.content), { mode: one.mode });
    await host.commit();
    await change(host, before, 'shipped');
    await work(host, copyToGuest(host, dir), dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

test('a patch of any changes, applied to a clean clone, gives the same files', async () => {
  await fc.assert(
    fc.asyncProperty(files, fc.array(edit, { maxLength: 8 }), async (start, edits) => {
      await inPair(start, [], async (_host, guest, dir) => {
        const clone = join(dir, 'clone');
        execFileSync('git', ['clone', '--quiet', '--no-hardlinks', guest.repo.dir, clone]);
        await change(guest.repo, edits, 'guest');
        const fingerprint = gitFingerprint(guest.repo.dir);
        const patch: Uint8Array[] = [];
        await lookAtGuest(guest, new AbortController().signal, (tree) =>
          pourPatch(tree, guest.headCommit, async (chunk) => void patch.push(chunk)),
        );
        assert.deepEqual(gitFingerprint(guest.repo.dir), fingerprint);
        const input = Buffer.concat(patch);
        if (input.length > 0) execFileSync('git', ['-C', clone, 'apply'], { input, stdio: 'pipe' });
        assert.deepEqual(sorted(filesOf(clone)), sorted(filesOf(guest.repo.dir)));
      });
    }),
    { numRuns: NUM_RUNS },
  );
});

test('merging any changes of the guest with any of the host loses none of either', async () => {
  let clean = 0;
  const edits = fc.array(edit, { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(files, edits, edits, edits, async (start, before, ofGuest, ofHost) => {
      await inPair(start, before, async (host, guest) => {
        const base = filesOf(host.dir);
        await change(guest.repo, ofGuest, 'guest');
        await change(host, ofHost, 'host');
        const ours = filesOf(host.dir);
        const theirs = filesOf(guest.repo.dir);
        const fingerprint = gitFingerprint(host.dir);
        const { applied, conflicts } = await applyTo(guest, host.dir);
        assert.deepEqual(gitFingerprint(host.dir), fingerprint);
        const merged = filesOf(host.dir);
        if (conflicts.length > 0) {
          assert(!applied);
          assert.deepEqual(sorted(merged), sorted(ours));
          return;
        }
        clean += 1;
        const all = [...merged.values()].join('\n');
        for (const [side, other] of [
          [ours, theirs],
          [theirs, ours],
        ] as const) {
          for (const [at, what] of side) {
            if (base.get(at) === what) continue;
            // Alone in having changed it: as it is. Renames of the other side may have carried it elsewhere.
            if (base.get(at) === other.get(at) && !all.includes(what.replace(/^\w+ /, '')))
              assert.fail(`${JSON.stringify(at)} is lost`);
            for (const line of what.match(/^(?:host|guest) \d+$/gm) ?? [])
              assert(all.includes(line), `${line} of ${JSON.stringify(at)} is lost`);
          }
        }
        const again = await applyTo(guest, host.dir);
        assert.deepEqual([again.changes, again.conflicts], [[], []]);
      });
    }),
    { numRuns: NUM_RUNS, examples: [LOOKS_RENAMED, FILE_AND_DIRECTORY] },
  );
  assert(clean > NUM_RUNS / 10, `${clean} merges without conflict`);
});
