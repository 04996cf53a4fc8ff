import assert from 'node:assert/strict';
import { test } from 'node:test';
import { locateKey } from './toml-position.ts';

const text = `a = 1
  b.c = 2
[one]
x = """
y = 1
"""
y = 2
[two . "thr ee"] # a comment ]
z = [ 1,
 2 ]
[[list]]
k = 1
[[list]]
  k = 2
[list.inner]
deep = 3
in = { line = 1 }
`;

test('keys are found, each in its table', () => {
  const place = (...path: string[]): string => {
    const { line, column } = locateKey(text, path);
    return `${line}:${column}`;
  };
  assert.equal(place('a'), '1:1');
  assert.equal(place('b', 'c'), '2:3');
  assert.equal(place('b'), '2:3', 'a table that only its members mention');
  assert.equal(place('one'), '3:1');
  assert.equal(place('one', 'y'), '7:1', 'not the line inside of a string');
  assert.equal(place('two', 'thr ee', 'z'), '9:1');
  assert.equal(place('list', '0', 'k'), '12:1');
  assert.equal(place('list', '1', 'k'), '14:3');
  assert.equal(place('list', '1', 'inner', 'deep'), '16:1');
  assert.equal(place('list', '1', 'inner', 'in', 'line'), '17:1', 'what is around an inline table');
  assert.equal(place('list', '1', 'none'), '13:1');
  assert.equal(place('nowhere'), '1:1');
});

test('a hostile line costs no more than its length', () => {
  for (const line of [
    `[${' '.repeat(60_000)}`,
    `${' '.repeat(60_000)}a`,
    'a.'.repeat(30_000),
    '"'.repeat(60_000),
  ]) {
    assert.deepEqual(locateKey(line, ['x']), { line: 1, column: 1 });
  }
});
