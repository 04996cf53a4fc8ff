import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { migrate } from '../store/migrations/run.ts';
import { diffStates, type StateContent } from './diff.ts';
import { cellOf, diffCells } from './diff-values.ts';
import { canonicalDump } from './dump.ts';
import { schemaAt } from './state-schema.ts';

const LEVEL = MIGRATIONS.at(-1)?.id ?? 0;
const EARLIER = MIGRATIONS.at(-2)?.id ?? 0;

/** A state with one image and the VMs given, each a JSON of its spec. */
function state(vms: Readonly<Record<string, string>>, level = LEVEL): StateContent {
  using database = new DatabaseSync(':memory:');
  migrate(
    database,
    ':memory:',
    MIGRATIONS.filter(({ id }) => id <= level),
    { keepCopy: false },
  );
  const at = '2026-01-02T03:04:05.000Z';
  database
    .prepare(
      "INSERT INTO images (id, name, rootfs_path, kernel_path, created_at, updated_at) VALUES ('i1', 'debian', '/r', '/k', ?, ?)",
    )
    .run(at, at);
  const insert = database.prepare(
    'INSERT INTO vms (id, name, image_id, guest_ip, state, created_at, updated_at, last_touched_at, spec_json, runtime_json) ' +
      "VALUES (?, ?, 'i1', ?, 'stopped', ?, ?, ?, ?, '{}')",
  );
  Object.entries(vms).forEach(([name, spec], index) => {
    insert.run(`id-${name}`, name, `127.0.0.${index}`, at, at, at, spec);
  });
  const schema = schemaAt(MIGRATIONS, level);
  return { payload: canonicalDump(database, schema).payload, schema };
}

test('equal states have no difference', () => {
  const content = state({ dev: '{"vcpus":2}' });
  assert.deepEqual(diffStates(content, state({ dev: '{"vcpus":2}' })), { rows: [], truncated: false });
});

test('rows that came, went and changed, JSON by its fields', () => {
  const before = state({ a: '{}', dev: '{"vcpus":2,"disk":{"size":1,"kind":"x"},"tags":[1]}' });
  const after = state({ b: '{}', dev: '{"vcpus":4,"disk":{"size":1},"nat":true,"tags":[1]}' });
  assert.deepEqual(diffStates(before, after).rows, [
    { table: 'vms', row: 'a', change: 'removed', columns: [] },
    { table: 'vms', row: 'b', change: 'added', columns: [] },
    {
      table: 'vms',
      row: 'dev',
      change: 'changed',
      columns: [
        { column: 'spec_json.vcpus', from: '2', to: '4' },
        { column: 'spec_json.disk.kind', from: '"x"', to: '(none)' },
        { column: 'spec_json.nat', from: '(none)', to: 'true' },
      ],
    },
  ]);
});

test('a state of an earlier schema version: the migration that is missing', () => {
  const { rows } = diffStates(state({ dev: '{}' }, EARLIER), state({ dev: '{}' }));
  const added = rows.filter(({ change }) => change === 'added').map(({ table, row }) => [table, row]);
  assert.deepEqual(added, [['schema_migrations', MIGRATIONS.at(-1)?.name]]);
});

test('at most 10,000 rows are listed, whatever happened to them', () => {
  const many = (spec: string) =>
    Object.fromEntries(Array.from({ length: 10_001 }, (_, index) => [`vm-${index}`, spec]));
  const [none, one, other] = [state({}), state(many('{}')), state(many('{"a":1}'))];
  for (const [from, to, change] of [
    [none, one, 'added'],
    [one, none, 'removed'],
    [one, other, 'changed'],
  ] as const) {
    const { rows, truncated } = diffStates(from, to);
    assert.equal(rows.length, 10_000, change);
    assert.ok(truncated, change);
    assert.ok(
      rows.every((row) => row.change === change),
      change,
    );
  }
});

test('at most 100 fields of a row', () => {
  const fields = Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`k${index}`, index]));
  const { rows, truncated } = diffStates(state({ dev: '{}' }), state({ dev: JSON.stringify(fields) }));
  assert.equal(rows[0]?.columns.length, 100);
  assert.ok(truncated);
});

function change(from: Parameters<typeof cellOf>[0], to: Parameters<typeof cellOf>[0]) {
  const [only, ...more] = diffCells('c', cellOf(from, false), cellOf(to, false));
  assert.deepEqual(more, []);
  return only === undefined ? undefined : [only.from, only.to];
}

test('values of other types never look equal', () => {
  assert.equal(change(1n, 1n), undefined);
  assert.deepEqual(change(1n, '1'), ['1', "'1'"]);
  assert.deepEqual(change(null, 'NULL'), ['NULL', "'NULL'"]);
  assert.deepEqual(change(0, -0), ['0.0', '-0.0']);
  assert.deepEqual(change('', null), ["''", 'NULL']);
  assert.deepEqual(change(Buffer.from([1]), "X'01'"), ["X'01'", "'X'01''"]);
  const bytes = Buffer.from([0xff]);
  assert.equal(diffCells('c', cellOf(bytes, true), cellOf(bytes, false)).length, 1);
});

test('long values are cut around their first difference, and printable', () => {
  const [from, to] = change(`${'a'.repeat(5000)}1${'b'.repeat(500)}`, `${'a'.repeat(5000)}2`) ?? [];
  assert.equal(from?.length, 200);
  assert.match(from ?? '', /^…a{40}1b+…$/);
  assert.equal(to, `…${'a'.repeat(40)}2`);
  assert.deepEqual(change('a', '\u001b[2J\u202e\n'), ['a', '\\u{1b}[2J\\u{202e}\\u{a}']);
  assert.equal((change('', '\u0000'.repeat(300)) ?? [])[1]?.length, 200);
});

test('JSON that is worded anew, twice the same key, or too deep: the text', () => {
  assert.deepEqual(change('{"a":1}', '{"a": 1}'), ['{"a":1}', '{"a": 1}']);
  const deep = (inner: string) => `${'{"a":'.repeat(50_000)}${inner}${'}'.repeat(50_000)}`;
  assert.equal(diffCells('c', cellOf(deep('1'), false), cellOf(deep('2'), false)).length, 1);
  assert.deepEqual(change('{"__proto__":1}', '{}'), ['1', '(none)']);
  assert.deepEqual(change('[1]', '[2]'), ['[1]', '[2]']);
});
