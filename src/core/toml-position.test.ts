import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'smol-toml';
import { tomlPositions, type TomlPath, withoutMark } from './toml-position.ts';

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
in = { line = 1, "q.u" . 'o' = [ 2, {last="}", end = 3} ], }
[lines]
of = [ # ] no end
  "# ] no comment", # "
  'it', '', {a = """
]}""", b = 4}, # }
  [ [], [5,
 6]],
]
wide = { # }
  e-less = "é]", "é" = 1,
  "\\u0061" = 2 }
[list.inner.more.again]
n = 1
[[list.many]]
[[list.many]]
n = 2
[[list.many.most]]
n = 3
__proto__ = 4
`;

test('keys are found, each in its table, and elements of arrays', () => {
  const find = tomlPositions(text);
  const places: readonly (readonly [TomlPath, string, string?])[] = [
    [['a'], '1:1'],
    [['b', 'c'], '2:5'],
    [['b'], '2:3', 'a table that only its members mention'],
    [['one'], '3:2'],
    [['one', 'y'], '7:1', 'not the line inside of a string'],
    [['two', 'thr ee'], '8:8'],
    [['two', 'thr ee', 'z'], '9:1'],
    [['two', 'thr ee', 'z', 0], '9:7'],
    [['two', 'thr ee', 'z', 1], '10:2'],
    [['list'], '11:3'],
    [['list', 0, 'k'], '12:1'],
    [['list', 1], '13:3'],
    [['list', 1, 'k'], '14:3'],
    [['list', 1, 'none'], '13:3', 'what is not there'],
    [['list', 1, 'inner'], '15:7'],
    [['list', 1, 'inner', 'deep'], '16:1'],
    [['list', 1, 'inner', 'in', 'line'], '17:8'],
    [['list', 1, 'inner', 'in', 'q.u'], '17:18'],
    [['list', 1, 'inner', 'in', 'q.u', 'o'], '17:26'],
    [['list', 1, 'inner', 'in', 'q.u', 'o', 1, 'last'], '17:38'],
    [['list', 1, 'inner', 'in', 'q.u', 'o', 1, 'end'], '17:48'],
    [['lines', 'of', 0], '20:3'],
    [['lines', 'of', 3], '21:13'],
    [['lines', 'of', 3, 'b'], '22:8'],
    [['lines', 'of', 4, 1, 1], '24:2'],
    [['lines', 'wide', 'é'], '27:18'],
    [['lines', 'wide', 'a'], '28:3', 'written as an escape'],
    [['list', 1, 'inner', 'more', 'again', 'n'], '30:1'],
    [['list', 1, 'many', 1], '32:8'],
    [['list', 1, 'many', 1, 'most', 0, 'n'], '35:1'],
    [['list', 1, 'many', 1, 'most', 0, '__proto__'], '36:1'],
    [['list', 1, 'many', 1, 'most', 0, 'toString'], '34:13'],
    [['list', '1', 'k'], '11:3', 'a text is no place in an array'],
    [['nowhere'], '1:1'],
    [[], '1:1'],
  ];
  for (const [path, expected, why] of places) {
    const { line, column } = find(path);
    assert.equal(`${line}:${column}`, expected, `${path.join(' / ')} ${why ?? ''}`);
  }
});

test('ends of lines and a byte order mark do not shift anything', () => {
  const find = tomlPositions(`\uFEFF${text.replaceAll('\n', '\r\n')}`);
  assert.deepEqual(find(['a']), { line: 1, column: 1 });
  assert.deepEqual(find(['lines', 'of', 3, 'b']), { line: 22, column: 8 });
});

test('a text that is not TOML has nothing but its start', () => {
  assert.deepEqual(tomlPositions('a = 1\nb = = 2')(['b']), { line: 1, column: 1 });
});

/** Keys and comments that look like what they are not. */
const space = fc.constantFrom('', ' ', '\t');
const gap = fc.constantFrom('', ' ', '\n', '\r\n  ', ' # ] } = "\n', "# '''\n");
const name = fc
  .tuple(fc.constantFrom('', 'x', '-', ' ', '.', ']', '}', '#', '=', 'é', '__proto__'), fc.nat(30))
  .map(([odd, n]) => (/^[x-]?$/.test(odd) ? `${odd}${n}` : `"${odd}${n}"`));
const key = fc
  .array(fc.tuple(name, space), { minLength: 1, maxLength: 3 })
  .map((parts) => parts.map(([part, after]) => `${part}${after}`).join('.'));
const { value } = fc.letrec<{ value: string; list: string; table: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom('@', '@', '"]}#="', "'\"'", '"""\n]\n""""', "'''\n}'''", '1.5', '1979-05-27'),
    tie('list'),
    tie('table'),
  ),
  list: fc
    .array(fc.tuple(gap, tie('value'), gap), { maxLength: 3 })
    .map((all) => `[${all.map((parts) => parts.join('')).join(',')}]`),
  table: fc
    .array(fc.tuple(gap, key, space, tie('value'), gap), { maxLength: 3 })
    .map((all) => `{${all.map(([a, k, b, v, c]) => `${a}${k}=${b}${v}${c}`).join(',')}}`),
}));
const line = fc.oneof(
  fc.tuple(space, key, space, value, space).map(([a, k, b, v, c]) => `${a}${k}=${b}${v}${c}`),
  key.map((k) => `[${k}] # [[x]]`),
  key.map((k) => ` [[ ${k}]]`),
);
/** Each `@` is a number of its own, so that what stands at a place says whose place it is. */
const document = fc.array(line, { maxLength: 8 }).map((lines) => {
  let n = 100_000;
  return `${lines.join('\n')}\n`.replaceAll('@', () => String((n += 1)));
});

function* numbersIn(value: unknown, path: TomlPath): Generator<readonly [TomlPath, number]> {
  if (typeof value === 'number' && value > 100_000) yield [path, value];
  if (Array.isArray(value)) for (const [at, one] of value.entries()) yield* numbersIn(one, [...path, at]);
  else if (typeof value === 'object' && value !== null && !(value instanceof Date))
    for (const [name, one] of Object.entries(value)) yield* numbersIn(one, [...path, name]);
}

test('whatever the parser reads: at its place stands its key, or the value itself in an array', () => {
  let checked = 0;
  fc.assert(
    fc.property(document, (written) => {
      let values: unknown;
      try {
        values = parse(written);
      } catch {
        return;
      }
      const find = tomlPositions(written);
      const lines = withoutMark(written).split('\n');
      for (const [path, value] of numbersIn(values, [])) {
        const { line, column } = find(path);
        const there = (lines[line - 1] ?? '').slice(column - 1);
        const last = path.at(-1) ?? '';
        const names = [String(last), `"${last}"`];
        const isThere =
          typeof last === 'number'
            ? there.startsWith(`${value}`)
            : names.some((one) =>
                there.replaceAll(/[ \t]/g, '').startsWith(`${one}=${value}`.replaceAll(' ', '')),
              );
        assert.ok(isThere, `${path.join(' / ')} at ${line}:${column}`);
        checked += 1;
      }
    }),
    { numRuns: 1500 },
  );
  assert.ok(checked > 300, `${checked} places`);
});

test('a hostile text costs no more than its length', () => {
  const length = 60_000;
  for (const hostile of [
    `[${' '.repeat(length)}`,
    `${' '.repeat(length)}a`,
    'a.'.repeat(length / 2),
    '"'.repeat(length),
    `a = ${'['.repeat(length)}`,
    `a = ${'{a='.repeat(length / 3)}`,
    `a = "${'x'.repeat(4 * length)}"`,
  ]) {
    assert.deepEqual(tomlPositions(hostile)(['x']), { line: 1, column: 1 });
  }
});
