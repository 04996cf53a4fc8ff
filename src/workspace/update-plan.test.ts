import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { runner, smallRepo, temporaryDir } from '../../test/helpers/host-repo.ts';
import { hostGit } from './git.ts';
import { repoState } from './repo-state.ts';
import { composed, nextState, planUpdate, withUnsettled } from './update-plan.ts';
import { isSameEntry, type TreeChange, type TreeEntry } from './tree-change.ts';

type Tree = ReadonlyMap<string, TreeEntry>;

const entry = fc.record({ mode: fc.constantFrom(0o100644, 0o120000), oid: fc.constantFrom('a', 'b', 'c') });
const tree = fc
  .array(fc.tuple(fc.constantFrom('p', 'q', 'r/s', 't'), entry), { maxLength: 4 })
  .map((pairs): Tree => new Map(pairs));

function difference(from: Tree, to: Tree): TreeChange[] {
  const paths = [...new Set([...from.keys(), ...to.keys()])].sort();
  return paths
    .map((path) => ({ path, from: from.get(path) ?? null, to: to.get(path) ?? null }))
    .filter((change) => !isSameEntry(change.from, change.to));
}

test('changes on either side of a move of HEAD come together as one comparison of the trees would', () => {
  fc.assert(
    fc.property(tree, tree, tree, tree, (oldHead, shipped, newHead, now) => {
      const steps = composed(
        difference(oldHead, shipped),
        difference(oldHead, newHead),
        difference(newHead, now),
      );
      assert.equal(JSON.stringify(steps), JSON.stringify(difference(shipped, now)));
    }),
    { numRuns: 2000 },
  );
});

test('what was sent and not written down is sent again, also where nothing differs any more', async (t) => {
  const repo = await smallRepo(t);
  for (const name of ['back', 'sent', 'other', 'gone']) repo.write(name, `${name}\n`);
  await repo.commit();
  const git = hostGit(runner, repo.dir, new AbortController().signal);
  const state = async () => {
    const found = await repoState(git, repo.dir);
    const scratch = await temporaryDir(t);
    const asked = { branch: null, from: null, untracked: [] };
    return { found, scratch, next: await nextState(git, found, asked, undefined, '', scratch) };
  };
  const { shipped: last } = (await state()).next;
  repo.write('back', 'changed\n');
  repo.write('added', 'new\n');
  await repo.git('add', 'added');
  rmSync(`${repo.dir}/gone`);
  const { shipped: cut } = (await state()).next;
  repo.write('back', 'back\n');
  repo.write('gone', 'gone\n');
  await repo.git('rm', '--force', '--quiet', 'added');
  repo.write('other', 'differs\n');
  const { found, scratch, next } = await state();
  const plan = await planUpdate(git, last, next);
  assert.deepEqual(
    plan.changes.map(({ path }) => path),
    ['other'],
  );
  const unsettled = { begun: [cut], sent: ['sent', 'other', 'unknown'] };
  const { changes } = await withUnsettled(git, found, plan, last, unsettled, scratch);
  const kinds = changes.map(
    ({ path, from, to }) => `${path} ${from === null ? '-' : 'f'}${to === null ? '-' : 't'}`,
  );
  assert.deepEqual(kinds.sort(), ['added f-', 'back -t', 'gone -t', 'other ft', 'sent -t']);
  const none = await withUnsettled(git, found, plan, last, { begun: [], sent: [] }, scratch);
  assert.equal(none, plan);
});
