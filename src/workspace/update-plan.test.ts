import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { composed } from './update-plan.ts';
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
