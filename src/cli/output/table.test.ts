import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatPairs, formatTable } from './table.ts';

test('columns are aligned, two spaces apart, with no spaces at line ends', () => {
  assert.equal(
    formatTable(
      ['A', 'LONG', 'C'],
      [
        ['1', 'x', 'y'],
        ['333', '', ''],
      ],
    ),
    'A    LONG  C\n1    x     y\n333\n',
  );
});

test('width is counted in characters, not UTF-16 units', () => {
  assert.equal(formatTable(['A', 'B'], [['😀', 'x']]), 'A  B\n😀  x\n');
});

test('no cell can break a line or reach the terminal as a control sequence', () => {
  const cell = fc.string({ unit: 'binary' });
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell), { maxLength: 5 }), (rows) => {
      const text = formatTable(['A', 'B'], rows);
      assert.equal(text.split('\n').length, rows.length + 2);
      assert.doesNotMatch(text.replaceAll('\n', ''), /\p{Cc}/u);
    }),
  );
});

test('pairs: keys aligned', () => {
  assert.equal(
    formatPairs([
      ['id', '1'],
      ['state', 'a\nb'],
    ]),
    'id     1\nstate  a?b\n',
  );
});
