import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import { openDatabase } from '../open.ts';
import { MIGRATIONS } from './list.ts';
import type { Migration } from './migration.ts';
import { migrate } from './run.ts';

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'migrate-'));
  path = join(dir, 'state.db');
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

const NEXT: Migration = {
  id: 900,
  name: 'next',
  apply: (database) => database.exec('CREATE TABLE next (x)'),
};
const LATER: Migration = {
  id: 901,
  name: 'later',
  apply: (database) => database.exec('CREATE TABLE later (x)'),
};

const version = (database: DatabaseSync): unknown =>
  database.prepare('PRAGMA user_version').get()?.['user_version'];
const levelOf = (database: DatabaseSync): unknown =>
  database.prepare('SELECT max(id) AS id FROM schema_migrations').get()?.['id'];

test('the hook is called once, after the copy and before the first pending migration', () => {
  using database = openDatabase(path);
  migrate(database, path, MIGRATIONS);
  const calls: unknown[] = [];
  const beforeFirst = (given: DatabaseSync, id: number): void => {
    calls.push([given === database, id, existsSync(`${path}.pre-900`), levelOf(given), given.isTransaction]);
  };
  migrate(database, path, [...MIGRATIONS, NEXT, LATER], { beforeFirst });
  assert.deepEqual(calls, [[true, 900, true, MIGRATIONS.at(-1)?.id, false]]);
  migrate(database, path, [...MIGRATIONS, NEXT, LATER], { beforeFirst });
  assert.equal(calls.length, 1, 'nothing is pending');
});

test('a new database has nothing to be called for', () => {
  using database = openDatabase(path);
  migrate(database, path, MIGRATIONS, { beforeFirst: () => assert.fail('called') });
  assert.equal(levelOf(database), MIGRATIONS.at(-1)?.id);
});

test('what the hook throws stops the migration before it changed anything', () => {
  using database = openDatabase(path);
  migrate(database, path, MIGRATIONS);
  const before = version(database);
  const beforeFirst = (): never => {
    throw new Error('no room for a snapshot');
  };
  assert.throws(
    () => migrate(database, path, [...MIGRATIONS, NEXT], { beforeFirst }),
    /no room for a snapshot/,
  );
  assert.equal(levelOf(database), MIGRATIONS.at(-1)?.id);
  assert.equal(version(database), before);
});

test('no copy where none is wanted', () => {
  using database = openDatabase(path);
  migrate(database, path, MIGRATIONS);
  migrate(database, path, [...MIGRATIONS, NEXT], { keepCopy: false });
  assert.equal(levelOf(database), 900);
  assert.ok(!existsSync(`${path}.pre-900`));
});

test('each migration raises the control version, a failed one does not', () => {
  using database = openDatabase(path);
  migrate(database, path, MIGRATIONS);
  assert.equal(version(database), MIGRATIONS.length);
  const bad: Migration = { ...LATER, apply: (given) => given.exec('CREATE TABLE half (x); nonsense') };
  assert.throws(
    () => migrate(database, path, [...MIGRATIONS, NEXT, bad]),
    /migration 901 .* applied before it and kept: 900$/,
  );
  assert.equal(version(database), MIGRATIONS.length + 1);
  assert.throws(() => migrate(database, path, [...MIGRATIONS, NEXT, bad]), /; nothing was changed$/);
});
