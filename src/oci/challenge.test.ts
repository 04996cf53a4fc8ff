import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseChallenges } from './challenge.ts';

function plain(header: string): unknown {
  return parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
}

test('challenges as registries send them', () => {
  assert.deepEqual(
    plain(
      'Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="repository:a:pull,push"',
    ),
    [
      [
        'bearer',
        {
          realm: 'https://auth.example.com/token',
          service: 'registry.example.com',
          scope: 'repository:a:pull,push',
        },
      ],
    ],
  );
  assert.deepEqual(plain('Basic realm="x"'), [['basic', { realm: 'x' }]]);
  assert.deepEqual(plain('BASIC Realm = "a \\"quoted\\" \\\\ name" , charset=UTF-8'), [
    ['basic', { realm: 'a "quoted" \\ name', charset: 'UTF-8' }],
  ]);
});

test('several in one header, with and without parameters', () => {
  assert.deepEqual(plain('Negotiate, Basic realm="x", Bearer realm="y",service=z'), [
    ['negotiate', {}],
    ['basic', { realm: 'x' }],
    ['bearer', { realm: 'y', service: 'z' }],
  ]);
  assert.deepEqual(plain('Negotiate YWJj==, Basic realm="x"'), [
    ['negotiate', {}],
    ['basic', { realm: 'x' }],
  ]);
});

test('of a parameter given twice the first counts, and what is broken ends it', () => {
  assert.deepEqual(plain('Bearer realm="a",realm="b"'), [['bearer', { realm: 'a' }]]);
  assert.deepEqual(plain('Bearer realm="a'), [['bearer', {}]]);
  assert.deepEqual(plain(''), []);
  assert.deepEqual(plain('"x"'), []);
  assert.deepEqual(plain(`Bearer realm="${'x'.repeat(8192)}"`), []);
});

test('ends, whatever the header', () => {
  const unit = fc.constantFrom(...'aB=", \\\t;é');
  fc.assert(
    fc.property(fc.string({ unit, maxLength: 200 }), (header) => {
      const total = parseChallenges(header).reduce((sum, { parameters }) => sum + parameters.size + 1, 0);
      return total <= header.length;
    }),
    { numRuns: 5000 },
  );
  assert.ok(parseChallenges('a'.repeat(8000)).length <= 1);
  assert.ok(parseChallenges(`a ${'\\"'.repeat(4000)}`).length <= 1);
});
