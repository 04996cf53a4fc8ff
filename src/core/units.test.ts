import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from './errors.ts';
import {
  counted,
  formatDuration,
  formatSize,
  formatSizeShort,
  GIB,
  MIB,
  parseDuration,
  parseSize,
} from './units.ts';

const badRequest = (error: unknown): boolean => error instanceof BangerError && error.code === 'bad_request';

test('parseSize reads every documented form', () => {
  const forms: readonly (readonly [string, number])[] = [
    ['4G', 4 * GIB],
    ['4GiB', 4 * GIB],
    ['4 gib', 4 * GIB],
    ['512MiB', 512 * MIB],
    ['1024', 1024 * MIB],
    ['1.5G', 1536 * MIB],
    ['64K', 65536],
    ['2T', 2048 * GIB],
    ['4096B', 4096],
    ['0', 0],
    [' 8G ', 8 * GIB],
  ];
  for (const [text, bytes] of forms) assert.equal(parseSize(text), bytes, text);
});

test('parseSize refuses what is not a size and says which value it was', () => {
  for (const text of [
    '',
    'G',
    '4GB',
    '4 X',
    '-1G',
    '-0',
    '1e3',
    '0x10',
    '1.3B',
    '9999999T',
    '4G4G',
    'constructor',
    '1'.repeat(99),
  ]) {
    assert.throws(() => parseSize(text), badRequest, text);
  }
  assert.throws(() => parseSize('-2G', 'memory'), /memory "-2G" is negative/);
  assert.throws(() => parseSize('99999999T'), /is too large/);
});

test('any whole number in any unit reads back as its bytes, whatever the case', () => {
  const units = { '': MIB, B: 1, K: 1024, KiB: 1024, M: MIB, MiB: MIB, G: GIB, GiB: GIB };
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 ** 20 }),
      fc.constantFrom(...(Object.keys(units) as (keyof typeof units)[])),
      fc.boolean(),
      (amount, unit, lower) => {
        const text = `${amount}${lower ? unit.toLowerCase() : unit}`;
        assert.equal(parseSize(text), amount * units[unit]);
      },
    ),
  );
});

test('what formatSize prints is within a decimal of the truth and is a size itself', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 46 }), (bytes) => {
      for (const text of [formatSize(bytes), formatSizeShort(bytes)]) {
        const value = /^[\d.]+/.exec(text)?.[0] ?? '';
        assert.ok(Number(value) <= 1024, text);
        // "1.3 KiB" is no whole number of bytes: read its number alone.
        const unit = { B: 1, K: 1024, M: MIB, G: GIB, T: 1024 * GIB }[text.replace(/[\d. ]/g, '')[0] as 'B'];
        assert.ok(Math.abs(Number(value) * unit - bytes) <= 0.0501 * unit, `${bytes} as ${text}`);
      }
    }),
  );
});

test('sizes as people expect them', () => {
  assert.equal(formatSize(8 * GIB), '8 GiB');
  assert.equal(formatSize(1.5 * GIB), '1.5 GiB');
  assert.equal(formatSize(GIB - 1), '1 GiB');
  assert.equal(formatSize(1023), '1023 B');
  assert.equal(formatSizeShort(8 * GIB), '8G');
});

test('parseDuration reads every documented form and refuses others', () => {
  const forms: readonly (readonly [string, number])[] = [
    ['0', 0],
    ['10s', 10_000],
    ['1h30m', 5_400_000],
    ['500ms', 500],
    ['1.5s', 1500],
    ['2d', 172_800_000],
  ];
  for (const [text, ms] of forms) assert.equal(parseDuration(text), ms, text);
  for (const text of [
    '',
    '10',
    's',
    '-1s',
    '1y',
    '1 s',
    '1h 30m',
    '1e9s',
    '9'.repeat(70),
    `${'9'.repeat(30)}d`,
  ]) {
    assert.throws(() => parseDuration(text), badRequest, text);
  }
});

test('parseDuration reads what formatDuration prints, to about a fortieth', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 100 * 86_400_000 }), (ms) => {
      const text = formatDuration(ms);
      assert.ok(Math.abs(parseDuration(text) - ms) <= Math.max(50, ms / 40), `${ms} as ${text}`);
    }),
  );
});

test('durations as people expect them', () => {
  const forms: readonly (readonly [number, string])[] = [
    [0, '0ms'],
    [350, '350ms'],
    [1400, '1.4s'],
    [2000, '2s'],
    [59_999, '1m'],
    [125_000, '2m5s'],
    [3_599_900, '1h'],
    [5_400_000, '1h30m'],
    [273_600_000, '3d4h'],
  ];
  for (const [ms, text] of forms) assert.equal(formatDuration(ms), text);
});

test('counted: one is one', () => {
  assert.deepEqual(
    [0, 1, 2].map((amount) => counted(amount, 'file')),
    ['0 files', '1 file', '2 files'],
  );
  assert.deepEqual(
    [1, 3].map((amount) => counted(amount, 'copy', 'copies')),
    ['1 copy', '3 copies'],
  );
});
