import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { BangerError } from '../core/errors.ts';
import { someImage } from '../../test/helpers/store-records.ts';
import { isAtLeast, openDatabase } from './open.ts';
import { openStore } from './store.ts';

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'store-'));
  path = join(dir, 'state.db');
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

test('every connection has every setting', () => {
  using database = openDatabase(path);
  const pragma = (name: string): unknown => Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0];
  const settings = {
    journal_mode: 'wal',
    synchronous: 1,
    foreign_keys: 1,
    busy_timeout: 5000,
    temp_store: 2,
    wal_autocheckpoint: 1000,
    journal_size_limit: 67_108_864,
    mmap_size: 0,
    trusted_schema: 0,
    cell_size_check: 1,
  };
  for (const [name, value] of Object.entries(settings)) {
    // Without memory mapping compiled in, mmap_size has no row at all.
    if (name === 'mmap_size' && pragma(name) === undefined) continue;
    assert.equal(pragma(name), value, name);
  }
});

test('the database and its companions are private, and the directory must be', () => {
  using store = openStore(join(dir, 'new/state.db'));
  store.upsertImage(someImage());
  assert.equal(statSync(join(dir, 'new')).mode & 0o777, 0o700);
  for (const name of readdirSync(join(dir, 'new'))) {
    assert.equal(statSync(join(dir, 'new', name)).mode & 0o777, 0o600, name);
  }
  assert.equal(readdirSync(join(dir, 'new')).length, 3);
  mkdirSync(join(dir, 'open'));
  chmodSync(join(dir, 'open'), 0o755);
  assert.throws(() => openStore(join(dir, 'open/state.db')), /open to other users/);
});

test('a link or a database open to others is refused', () => {
  symlinkSync(join(dir, 'elsewhere.db'), path);
  assert.throws(() => openStore(path), /not a regular file/);
  rmSync(path);
  openStore(path).close();
  chmodSync(path, 0o640);
  assert.throws(() => openStore(path), /open to other users \(mode 0640\)/);
});

test('a damaged file is told as such and not one byte of it changes', () => {
  for (const content of ['this is not a database '.repeat(200), `SQLite format 3\0${'x'.repeat(5000)}`]) {
    writeFileSync(path, content, { mode: 0o600 });
    assert.throws(
      () => openStore(path),
      (error) =>
        error instanceof BangerError && error.code === 'io_error' && /is damaged/.test(error.message),
    );
    assert.equal(readFileSync(path, 'latin1'), content);
    assert.deepEqual(readdirSync(dir), ['state.db']);
  }
});

test('another program that keeps the database locked is an error that says so', async () => {
  openStore(path).close();
  const other = spawn('sqlite3', [path], { stdio: ['pipe', 'pipe', 'inherit'] });
  other.stdin.write('BEGIN IMMEDIATE; SELECT 1;\n');
  await once(other.stdout, 'data');
  using store = openStore(path);
  assert.throws(
    () => store.upsertImage(someImage()),
    (error) =>
      error instanceof BangerError && error.code === 'unavailable' && /is locked/.test(error.message),
  );
  other.stdin.end('ROLLBACK;\n');
  await once(other, 'exit');
  store.upsertImage(someImage());
});

test('the stock SQLite shell reads what we write, un-checkpointed rows included', () => {
  using store = openStore(path);
  store.upsertImage(someImage({ name: 'one' }));
  const shell = spawnSync('sqlite3', [path, 'SELECT name FROM images; PRAGMA integrity_check;'], {
    encoding: 'utf8',
  });
  assert.equal(shell.stdout, 'one\nok\n');
});

test('what was committed survives kill -9', () => {
  const url = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
  const script = `
    const { openStore } = await import(${url('./store.ts')});
    const { someImage } = await import(${url('../../test/helpers/store-records.ts')});
    openStore(${JSON.stringify(path)}).upsertImage(someImage({ name: 'kept' }));
    process.kill(process.pid, 'SIGKILL');`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  assert.equal(child.signal, 'SIGKILL', String(child.stderr));
  using store = openStore(path);
  assert.deepEqual(
    store.listImages().map((image) => image.name),
    ['kept'],
  );
});

test('close is idempotent and leaves one file', () => {
  const store = openStore(path);
  store.close();
  store.close();
  assert.deepEqual(readdirSync(dir), ['state.db']);
});

test('versions are compared as numbers', () => {
  assert.ok(isAtLeast('3.51.3', [3, 51, 3]));
  assert.ok(isAtLeast('3.100.0', [3, 51, 3]));
  assert.ok(isAtLeast('4.0', [3, 51, 3]));
  for (const old of ['3.51.2', '3.9.9', '2.99.99', '3.51']) assert.ok(!isAtLeast(old, [3, 51, 3]), old);
});
