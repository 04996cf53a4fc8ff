import assert from 'node:assert/strict';
import type { SQLInputValue } from 'node:sqlite';
import { test } from 'node:test';
import { databaseAt, ODD_MIGRATIONS, smallState, snapshotOf } from '../../test/helpers/state-fixture.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { MAX_ROW_BYTES } from './dump.ts';
import { ErrVerify, type VerifyReason } from './errors.ts';
import { readPayload } from './payload-reader.ts';
import { schemaAt } from './state-schema.ts';

using state = smallState();
const PAYLOAD = snapshotOf(state).data;
const TEXT = PAYLOAD.toString();
const SCHEMA = schemaAt(MIGRATIONS, MIGRATIONS.at(-1)?.id ?? 0);
const ODD = schemaAt(ODD_MIGRATIONS, 1);

using odd = databaseAt(ODD_MIGRATIONS);
const ODD_TEXT = snapshotOf(odd, 'identity', ODD_MIGRATIONS).data.toString();
const BEFORE_HISTORY = ODD_TEXT.indexOf('INSERT INTO "schema_migrations"');

/** A payload of the odd schema with these values in a row of `loose`. */
function oddPayload(rows: string): Buffer {
  return Buffer.from(ODD_TEXT.slice(0, BEFORE_HISTORY) + rows + ODD_TEXT.slice(BEFORE_HISTORY));
}

function looseRow(values: string): Buffer {
  return oddPayload(`INSERT INTO "loose" VALUES(${values});\n`);
}

function readOdd(payload: Buffer): readonly (readonly SQLInputValue[])[] {
  const rows: (readonly SQLInputValue[])[] = [];
  readPayload(payload, ODD, (table, values) => {
    if (table === 'loose') rows.push(values);
  });
  return rows;
}

/** Refused for that reason at that byte. */
function assertRefused(
  payload: Buffer | string,
  reason: VerifyReason,
  offset: number,
  schema = SCHEMA,
): void {
  const bytes = Buffer.from(payload);
  assert.throws(
    () => readPayload(bytes, schema, () => {}),
    (error) => {
      assert.ok(error instanceof ErrVerify, String(error));
      assert.equal(error.reason, reason, error.message);
      assert.match(error.message, new RegExp(`, at byte ${offset} of the payload$`));
      return true;
    },
  );
}

test('the rows of a dump, in order, with their types', () => {
  const rows: [string, readonly SQLInputValue[]][] = [];
  const counts = readPayload(PAYLOAD, SCHEMA, (table, values) => rows.push([table, values]));
  assert.deepEqual(counts, { images: 1, schema_migrations: MIGRATIONS.length, vms: 2 });
  assert.deepEqual(rows[1], ['schema_migrations', [1n, 'baseline', '']]);
  assert.deepEqual(rows[0]?.[1].slice(0, 3), ['debian', 'debian', 1n]);
  assert.equal(rows.at(-1)?.[1].at(-1), '{"guestPath":"/workspace/it\'s größe 🚀"}');
});

test('each literal', () => {
  const read = (literal: string): SQLInputValue =>
    readOdd(looseRow(`1,NULL,${literal}`))[0]?.[2] as SQLInputValue;
  assert.equal(read('NULL'), null);
  assert.equal(read('-9223372036854775808'), -(2n ** 63n));
  assert.equal(read('0'), 0n);
  assert.ok(Object.is(read('-0.0'), -0));
  assert.equal(read('-2.2250738585072014e-308'), -2.2250738585072014e-308);
  assert.equal(read('9e999'), Number.POSITIVE_INFINITY);
  assert.equal(read("''''''"), "''");
  assert.equal(read("''"), '');
  assert.equal(read("');\nINSERT INTO'"), ');\nINSERT INTO');
  assert.deepEqual(read("X''"), Buffer.alloc(0));
  assert.deepEqual(read("X'00FF'"), Buffer.from([0, 255]));
  assert.equal(read("CAST(X'610062' AS TEXT)"), 'a\0b');
  let textAsBytes: readonly number[] = [];
  readPayload(looseRow("1,X'FF',CAST(X'FF' AS TEXT)"), ODD, (table, _values, indexes) => {
    if (table === 'loose') textAsBytes = indexes;
  });
  assert.deepEqual(textAsBytes, [2]);
});

const NO_LITERALS = [
  ...[
    '',
    ' 1',
    '1 ',
    '+1',
    '01',
    '-0',
    '1e5',
    '1.',
    '.5',
    '1.50',
    '0x10',
    '1_0',
    'nan',
    'null',
    'TRUE',
    'NUL',
  ],
  ...[
    '9223372036854775808',
    '-9223372036854775809',
    '1'.repeat(100),
    '1+1',
    '(1)',
    '-(1)',
    '1;',
    '1--',
    '1/**/',
  ],
  ...[
    '"a"',
    '`a`',
    '[a]',
    '?',
    ':a',
    'a',
    'random()',
    "load_extension('x')",
    "readfile('/etc/passwd')",
    '(SELECT 1)',
  ],
  ...[
    "x'00'",
    "X'0'",
    "X'0g'",
    "X'0a'",
    "X'00",
    'X"00"',
    "X 'x'",
    "'''",
    "'a",
    "'a'b",
    "'a'||'b'",
    "'a' ",
    "E'a'",
  ],
  ...[
    "CAST(X'61' AS TEXT)",
    "CAST(X'' AS TEXT)",
    "CAST(X'C3A4' AS TEXT)",
    "CAST(X'ff' AS TEXT)",
    "CAST(X'FF' AS BLOB)",
  ],
  ...[
    "CAST(X'FF' as TEXT)",
    "CAST( X'FF' AS TEXT)",
    "CAST('FF' AS TEXT)",
    "cast(X'FF' AS TEXT)",
    'CURRENT_TIMESTAMP',
  ],
];
for (const text of NO_LITERALS) {
  test(`no literal of ours: ${text.slice(0, 30)}`, () => {
    assert.throws(() => readOdd(looseRow(`1,${text},NULL`)), { reason: 'grammar' });
  });
}

test('refused: too few values, too many, and none', () => {
  const at = BEFORE_HISTORY + 'INSERT INTO "loose" VALUES('.length;
  assertRefused(looseRow('1,2'), 'grammar', at + 3, ODD);
  assertRefused(looseRow('1,2,3,4'), 'grammar', at + 5, ODD);
  assertRefused(looseRow(''), 'grammar', at, ODD);
});

test('refused: rows out of order, a key twice, and keys that differ only by type', () => {
  const row = (values: string): string => `INSERT INTO "loose" VALUES(${values},0,0);\n`;
  const second = BEFORE_HISTORY + row('1').length;
  assert.equal(readOdd(oddPayload(row('1') + row('2'))).length, 2);
  assertRefused(oddPayload(row('1') + row('1')), 'rows', second, ODD);
  assertRefused(oddPayload(row('2') + row('1')), 'rows', BEFORE_HISTORY + row('2').length, ODD);
  assertRefused(oddPayload(row('1') + row('1.0')), 'rows', second, ODD);
});

test('refused: tables out of order, and tables of others', () => {
  const loose = 'INSERT INTO "loose" VALUES(1,0,0);\n';
  const idx = 'INSERT INTO "search_idx" VALUES(1);\n';
  const end = ODD_TEXT.indexOf('CREATE INDEX');
  assertRefused(ODD_TEXT.slice(0, end) + idx + loose + ODD_TEXT.slice(end), 'grammar', end + idx.length, ODD);
  for (const name of [
    '"sqlite_schema"',
    '"sqlite_master"',
    '"other"',
    '"main"."vms"',
    'vms',
    '"VMS"',
    "'vms'",
  ]) {
    const forged = TEXT.replace('INSERT INTO "vms" VALUES(', `INSERT INTO ${name} VALUES(`);
    assertRefused(forged, 'grammar', Buffer.byteLength(TEXT.slice(0, TEXT.indexOf('INSERT INTO "vms"'))));
  }
});

const FOREIGN_STATEMENTS = [
  "ATTACH DATABASE '/tmp/other.db' AS other;\n",
  "DETACH DATABASE 'main';\n",
  'PRAGMA writable_schema=ON;\n',
  "VACUUM INTO '/tmp/stolen.db';\n",
  'CREATE TRIGGER t AFTER INSERT ON vms BEGIN DELETE FROM images; END;\n',
  'CREATE TABLE more(a);\n',
  'CREATE VIEW v AS SELECT 1;\n',
  'DROP TABLE vms;\n',
  'DELETE FROM vms;\n',
  'UPDATE vms SET state = 1;\n',
  'SELECT 1;\n',
  'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c;\n',
  'COMMIT;\n',
  'ROLLBACK;\n',
  'BEGIN TRANSACTION;\n',
  '.shell true\n',
  '.read /etc/passwd\n',
  '-- a comment\n',
  '/* a comment */',
  ';',
  ' ',
  '\n',
  '\r',
  '\t',
  '\ufeff',
  '\\',
];
/** The start of each line, all of which are the start of a statement here, and the end. */
const STARTS = [...TEXT.matchAll(/^(?:PRAGMA|BEGIN|CREATE|INSERT|COMMIT)|$(?![\s\S])/gm)].map(
  ({ index }) => index,
);

test('D6: refused: any other statement, comment or space, before any statement and after the last', () => {
  assert.equal(STARTS.length, 2 + 3 + 1 + MIGRATIONS.length + 2 + 4 + 1 + 1);
  for (const statement of FOREIGN_STATEMENTS) {
    for (const at of STARTS) {
      const forged = Buffer.from(TEXT.slice(0, at) + statement + TEXT.slice(at));
      assert.throws(
        () => readPayload(forged, SCHEMA, () => {}),
        (error) => error instanceof ErrVerify && / at byte \d+ of the payload$/.test(error.message),
        `${JSON.stringify(statement)} at ${at}`,
      );
    }
  }
});

test('refused: a statement that is missing, there twice, or in another order', () => {
  for (const [index, start] of STARTS.entries()) {
    const end = STARTS[index + 1];
    if (end === undefined) break;
    const statement = TEXT.slice(start, end);
    const twice = Buffer.from(TEXT.slice(0, end) + statement + TEXT.slice(end));
    assert.throws(() => readPayload(twice, SCHEMA, () => {}), { name: 'ErrVerify' }, statement);
    // A row that is missing is a row that is not there: its count and the digest tell.
    if (statement.startsWith('INSERT')) continue;
    const without = Buffer.from(TEXT.slice(0, start) + TEXT.slice(end));
    assert.throws(() => readPayload(without, SCHEMA, () => {}), { name: 'ErrVerify' }, statement);
  }
});

test('refused: where a byte differs, with its offset', () => {
  assertRefused(`\ufeff${TEXT}`, 'grammar', 0);
  assertRefused(TEXT.replaceAll('\n', '\r\n'), 'grammar', TEXT.indexOf('\n'));
  assertRefused(TEXT.replace('foreign_keys=OFF', 'foreign_keys=ON '), 'grammar', TEXT.indexOf('OFF') + 1);
  assertRefused(
    TEXT.replace('kernel_path TEXT', 'kernel_path BLOB'),
    'schema',
    TEXT.indexOf('kernel_path TEXT') + 12,
  );
  assertRefused(
    TEXT.replace('state TEXT NOT NULL', 'state TEXT CHECK(x)'),
    'schema',
    TEXT.indexOf('state TEXT NOT') + 11,
  );
  const index = Buffer.byteLength(TEXT.slice(0, TEXT.indexOf("guest_ip <> ''")));
  assertRefused(TEXT.replace("guest_ip <> ''", 'guest_ip <> 1 '), 'schema', index + 12);
  const nul = Buffer.byteLength(TEXT.slice(0, TEXT.indexOf('größe')));
  assertRefused(TEXT.replace('größe', '\0röße'), 'grammar', nul);
  assertRefused(TEXT.replace('größe', '\rröße'), 'grammar', nul);
  assertRefused('', 'grammar', 0);
});

test('refused: a text that is not UTF-8', () => {
  const at = PAYLOAD.indexOf('größe');
  const forged = Buffer.from(PAYLOAD);
  forged[at + 2] = 0xff;
  const start = PAYLOAD.lastIndexOf("'{", at);
  assertRefused(forged, 'grammar', start);
});

test('refused: every truncation', () => {
  for (let length = 0; length < PAYLOAD.length; length += 1) {
    assert.throws(() => readPayload(PAYLOAD.subarray(0, length), SCHEMA, () => {}), { name: 'ErrVerify' });
  }
});

test('refused, or read as what it says: every changed byte', () => {
  const changed = Buffer.from(PAYLOAD);
  for (const [at, byte] of PAYLOAD.entries()) {
    for (const value of [0, 0x0a, 0x27, 0x2c, 0x80, byte ^ 1, byte ^ 0x20]) {
      if (value === byte) continue;
      changed[at] = value;
      try {
        readPayload(changed, SCHEMA, () => {});
      } catch (error) {
        assert.ok(error instanceof ErrVerify, String(error));
      }
    }
    changed[at] = byte;
  }
});

test('rows across the windows of the reader', () => {
  const long = 'ä'.repeat(MAX_ROW_BYTES / 2 - 100);
  const rows = Array.from(
    { length: 9 },
    (_, index) => `INSERT INTO "loose" VALUES(${index},'${long}',${index});\n`,
  );
  const read = readOdd(oddPayload(rows.join('')));
  assert.equal(read.length, 9);
  assert.ok(read.every((values, index) => values[0] === BigInt(index) && values[1] === long));
});

test('refused: a row beyond the cap, ended or not', () => {
  const long = 'x'.repeat(MAX_ROW_BYTES);
  assertRefused(looseRow(`1,'${long}',2`), 'grammar', BEFORE_HISTORY, ODD);
  assert.throws(() => readOdd(looseRow(`1,'${long.repeat(5)}`)), { reason: 'grammar' });
  assert.throws(() => readOdd(looseRow(`1,X'${'0'.repeat(5 * MAX_ROW_BYTES)}`)), { reason: 'grammar' });
});
