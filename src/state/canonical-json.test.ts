import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type CanonicalValue, canonicalJson, parseCanonicalJson } from './canonical-json.ts';

const parse = (text: string): CanonicalValue => parseCanonicalJson(Buffer.from(text));

test('keys are sorted and nothing else is added', () => {
  assert.equal(
    canonicalJson({ b: [1, { d: null, c: true }], a: 'x' }),
    '{"a":"x","b":[1,{"c":true,"d":null}]}',
  );
});

test('an unsigned 64-bit number survives', () => {
  assert.equal(canonicalJson({ n: 2n ** 64n - 1n }), '{"n":18446744073709551615}');
  assert.deepEqual(parse('{"n":18446744073709551615}'), { n: 18446744073709551615n });
  assert.deepEqual(parse('{"n":9007199254740991}'), { n: 9007199254740991 });
  assert.deepEqual(parse('-9007199254740993'), -9007199254740993n);
});

const REFUSED: Readonly<Record<string, string>> = {
  'a key twice': '{"a":1,"a":1}',
  'another order': '{"b":1,"a":2}',
  'a space': '{"a": 1}',
  'a newline at the end': '{"a":1}\n',
  'an exponent': '{"a":1e2}',
  'a point': '{"a":1.0}',
  'minus zero': '-0',
  'a large number with an exponent': '1e20',
  'an escape that is not needed': '"\\u0061"',
  'an escaped slash': '"a\\/b"',
  'upper case hex': '"\\u001F"',
  'two values': '1 2',
  nothing: '',
  'a comment': '{}//',
  'a byte order mark': '\ufeff{}',
  depth: '['.repeat(60_000),
};
for (const [name, text] of Object.entries(REFUSED)) {
  test(`refused: ${name}`, () => assert.throws(() => parse(text)));
}

test('refused: what is not UTF-8', () => {
  assert.throws(() => parseCanonicalJson(Buffer.from([0x22, 0xff, 0x22])));
});

test('what was written is read back, whatever it is', () => {
  const value = fc.letrec<{ value: CanonicalValue }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constant(null),
      fc.boolean(),
      fc.maxSafeInteger(),
      fc.double({ noNaN: true, noDefaultInfinity: true }).filter((x) => !Number.isInteger(x)),
      fc.bigInt({ min: 2n ** 60n, max: 2n ** 64n - 1n }),
      fc.string({ unit: 'binary' }),
      fc.array(tie('value')),
      fc.dictionary(fc.string(), tie('value'), { noNullPrototype: true }),
    ),
  })).value;
  fc.assert(
    fc.property(value, (input) => {
      const text = canonicalJson(input);
      assert.deepEqual(parse(text), input);
    }),
  );
});
