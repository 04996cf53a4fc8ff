import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import fc from 'fast-check';
import { literal, readNumber, realLiteral } from './literal.ts';

const spell = (value: Parameters<typeof literal>[0]): string => literal(value).toString();
const text = (value: string): { text: Uint8Array } => ({ text: Buffer.from(value) });

test('one spelling for each value', () => {
  assert.equal(spell(null), 'NULL');
  assert.equal(spell(-(2n ** 63n)), '-9223372036854775808');
  assert.equal(spell(2n ** 63n - 1n), '9223372036854775807');
  assert.equal(spell(5), '5.0');
  assert.equal(spell(-0), '-0.0');
  assert.equal(spell(0.1), '0.1');
  assert.equal(spell(1e300), '1e+300');
  assert.equal(spell(5e-324), '5e-324');
  assert.equal(spell(1e20), '100000000000000000000.0');
  assert.equal(spell(Number.POSITIVE_INFINITY), '9e999');
  assert.equal(spell(Number.NEGATIVE_INFINITY), '-9e999');
  assert.equal(spell(text("it's\n")), "'it''s\n'");
  assert.equal(spell(text('')), "''");
  assert.equal(spell(text('🚀')), "'🚀'");
  assert.equal(spell({ blob: Buffer.from([0x0f, 0xab]) }), "X'0FAB'");
  assert.equal(spell({ blob: Buffer.alloc(0) }), "X''");
});

test('D10: text with NUL, and text that is not UTF-8, is spelled as its bytes', () => {
  assert.equal(spell(text('a\0b')), "CAST(X'610062' AS TEXT)");
  assert.equal(spell({ text: Buffer.from([0xff]) }), "CAST(X'FF' AS TEXT)");
});

test('text with CR, which the sqlite3 program drops before LF, is spelled as its bytes', () => {
  assert.equal(spell(text('\r\n')), "CAST(X'0D0A' AS TEXT)");
});

test('SQLite and the reader read a number as what was spelled', () => {
  using database = new DatabaseSync(':memory:');
  fc.assert(
    fc.property(
      fc.double({ noNaN: true }),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      (real, integer) => {
        const row = database.prepare(`SELECT ${realLiteral(real)} AS real, typeof(${integer}) AS type`).get();
        assert.ok(Object.is(row?.['real'], real), realLiteral(real));
        assert.equal(row?.['type'], 'integer');
        assert.ok(Object.is(readNumber(realLiteral(real)), real));
        assert.equal(readNumber(integer.toString()), integer);
      },
    ),
    { numRuns: 1000 },
  );
});

test('no number has another spelling', () => {
  const others = [
    ...[
      '',
      '-',
      '+1',
      '01',
      '-0',
      '00',
      '1_000',
      '0x10',
      ' 1',
      '1 ',
      '1e5',
      '1E5',
      '1.',
      '.5',
      '1.50',
      '0.10',
    ],
    ...['-00.0', '1e300', '1.0e+300', '9e998', '1e999', '-1e999', 'NaN', 'Infinity', '1-2', '--1', '1n', '٣'],
    ...[
      '9223372036854775808',
      '-9223372036854775809',
      '99999999999999999999',
      '5e-325',
      '0.1000000000000000055',
    ],
  ];
  for (const other of others) assert.equal(readNumber(other), undefined, other);
});
