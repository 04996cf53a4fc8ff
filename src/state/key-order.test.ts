import assert from 'node:assert/strict';
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { test } from 'node:test';
import fc from 'fast-check';
import { isBefore, keyValue } from './key-order.ts';

/** Texts that meet around the surrogates, where code units and bytes disagree. */
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom('\ud7ff', '\ue000', '\uffff', '𐀀', '🚀', '', 'a', 'a\0'),
);
const value = fc.oneof(
  fc.record({
    value: fc.oneof(fc.constant(null), text, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
    isText: fc.constant(false),
  }),
  fc.record({
    value: fc.constantFrom<SQLInputValue>(2n ** 53n + 1n, 2 ** 53, 1n, 1, 1.5, 0, Number.POSITIVE_INFINITY),
    isText: fc.constant(false),
  }),
  fc.record({ value: fc.uint8Array({ maxLength: 4 }), isText: fc.boolean() }),
);

test('the order is that of SQLite', () => {
  using database = new DatabaseSync(':memory:');
  fc.assert(
    fc.property(value, value, (a, b) => {
      const spell = (side: typeof a): string => (side.isText ? 'CAST(? AS TEXT)' : '?');
      const first = database
        .prepare(
          `SELECT n FROM (SELECT 1 AS n, ${spell(a)} AS v UNION ALL SELECT 2, ${spell(b)}) ORDER BY v COLLATE BINARY, n DESC LIMIT 1`,
        )
        .get(a.value, b.value)?.['n'];
      assert.equal(isBefore([keyValue(a.value, a.isText)], [keyValue(b.value, b.isText)]), first === 1);
    }),
    { numRuns: 2000 },
  );
});

test('later columns decide where earlier ones are equal', () => {
  assert.equal(isBefore(['a', 1n], ['a', 2n]), true);
  assert.equal(isBefore(['a', 2n], ['a', 2n]), false);
  assert.equal(isBefore(['b', 1n], ['a', 2n]), false);
});
