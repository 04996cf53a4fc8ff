import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { shapeDifferences, shapeKey } from './shape.ts';

test('the key is the shape’s, whatever the order of its entries, and no other’s', () => {
  assert.equal(shapeKey({ a: '1', b: '2' }), shapeKey({ b: '2', a: '1' }));
  assert.match(shapeKey({}), /^[0-9a-f]{64}$/);
  const shapes = fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true });
  fc.assert(
    fc.property(shapes, shapes, (one, other) => {
      assert.equal(shapeKey(one) === shapeKey(other), shapeDifferences(one, other).length === 0);
    }),
  );
  // What a key of joined strings would take for the same.
  assert.notEqual(shapeKey({ a: 'b","c', d: '' }), shapeKey({ a: 'b', c: 'd' }));
});

test('keys stay the same from one version to the next: frozen machines are found by them', () => {
  const key = '7b0d5cba25458d9ac39c01094dd56f4c0b1ecb2f559e9a1b8cbe750831a2b6b1';
  assert.equal(shapeKey({ memory: '512M', driver: 'qemu' }), key);
});

test('differences name the entry and both values, long ones cut', () => {
  assert.deepEqual(
    shapeDifferences({ memory: '512M', x: '1' }, { memory: '256M', y: 'z'.repeat(200), x: '1' }),
    ['memory: 256M, not 512M', `y: ${'z'.repeat(120)}…, not nothing`],
  );
  assert.deepEqual(shapeDifferences({ toString: 'a' }, {}), ['toString: nothing, not a']);
});
