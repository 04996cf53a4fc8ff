import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fingerprint } from '../../test/helpers/fingerprint.ts';
import { firstOutput, killStarted, startNode } from '../../test/helpers/node-child.ts';
import { someImage } from '../../test/helpers/store-records.ts';
import { MIGRATIONS } from './migrations/list.ts';
import { openStore } from './store.ts';

let home = '';
let dir = '';
let path = '';
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'check-'));
  dir = join(home, 'state');
  mkdirSync(dir, { mode: 0o700 });
  path = join(dir, 'state.db');
});
afterEach(async () => {
  await killStarted();
  chmodSync(dir, 0o700);
  rmSync(home, { recursive: true });
});

const BANGERD = fileURLToPath(new URL('../main/bangerd.ts', import.meta.url));
const OURS = MIGRATIONS.at(-1)?.id ?? 0;

function sql(...statements: readonly string[]): void {
  execFileSync('sqlite3', [path, ...statements]);
}

/** The program itself; what it says, and that it touched nothing. */
function check(asUid?: number): { status: number | null; line: string } {
  const before = fingerprint(home);
  const identity = asUid === undefined ? {} : { uid: asUid, gid: asUid };
  const result = spawnSync(process.execPath, [BANGERD, '--check-migrations'], {
    ...identity,
    encoding: 'utf8',
    env: { BANGER_HOME: home },
  });
  assert.deepEqual(fingerprint(home), before);
  assert.equal(result.stderr, '');
  assert.match(result.stdout, /^[^\n]+\n$/, 'one line');
  return { status: result.status, line: result.stdout.trimEnd() };
}

test('none yet: 0', () => {
  assert.deepEqual(check(), { status: 0, line: `${path}: no database yet` });
  writeFileSync(path, '');
  assert.deepEqual(check(), { status: 0, line: `${path}: no database yet` });
});

test('compatible: 0, also beside a process that has it open and of a killed one', async () => {
  const line = `${path}: schema version ${OURS}, as this program has it`;
  openStore(path).close();
  assert.deepEqual(check(), { status: 0, line });
  rmSync(path);
  const child = startNode(`
    const { openStore } = await import(${JSON.stringify(new URL('./store.ts', import.meta.url))});
    const store = openStore(${JSON.stringify(path)});
    process.stdout.write('ready');
    process.stdin.resume();`);
  await firstOutput(child);
  assert.equal(readdirSync(dir).length, 3);
  assert.deepEqual(check(), { status: 0, line });
  await killStarted();
  assert.deepEqual(check(), { status: 0, line });
});

test('pending: 1, with what is', () => {
  openStore(path).close();
  sql(`DELETE FROM schema_migrations WHERE id >= 100`);
  const { status, line } = check();
  assert.equal(status, 1);
  const pending = MIGRATIONS.filter(({ id }) => id >= 100).map(({ id, name }) => `${id} ${name}`);
  assert.equal(line, `${path}: schema version 3, this program's is ${OURS}; pending: ${pending.join(', ')}`);
});

test('newer: 2, with both versions', () => {
  openStore(path).close();
  sql(
    `INSERT INTO schema_migrations VALUES (999, 'future', '')`,
    'DELETE FROM schema_migrations WHERE id = 3',
  );
  const { status, line } = check();
  assert.equal(status, 2);
  assert.match(line, new RegExp(`schema version 999, .*\\(999\\); banger .* knows schema version ${OURS}$`));
});

test('cannot tell: 3, and why', () => {
  writeFileSync(path, 'x'.repeat(5000));
  assert.equal(check().status, 3);
  rmSync(path);
  openStore(path).close();
  writeFileSync(`${path}-journal`, 'hot');
  assert.match(check().line, /cannot tell: .*must be rolled back.*banger daemon start/);
  rmSync(`${path}-journal`);
  sql('DROP TABLE schema_migrations', 'CREATE TABLE schema_migrations (other)');
  assert.match(check().line, /cannot tell: .*no such column/);
  rmSync(path);
  mkdirSync(path);
  const { status, line } = check();
  assert.equal(status, 3);
  assert.match(line, /cannot tell: .*not a regular file/);
});

test('no place for state: 3', () => {
  const result = spawnSync(process.execPath, [BANGERD, '--check-migrations'], { env: {}, encoding: 'utf8' });
  assert.equal(result.status, 3);
  assert.match(result.stdout, /^cannot tell: HOME is not set/);
});

const asRoot = process.getuid?.() === 0 ? {} : { skip: 'needs root, to become another user' };
test('a 0555 directory as another uid; an unreadable file is told as such', asRoot, () => {
  openStore(path).close();
  chmodSync(home, 0o755);
  chmodSync(path, 0o644);
  chmodSync(dir, 0o555);
  assert.equal(check(65534).status, 0);
  chmodSync(path, 0o600);
  assert.match(check(65534).line, /cannot tell: cannot read .*state.db: permission denied$/);
});

test('opening for writing refuses a -wal without its database, which SQLite would delete', async () => {
  const child = startNode(`
    const { openStore } = await import(${JSON.stringify(new URL('./store.ts', import.meta.url))});
    openStore(${JSON.stringify(path)});
    process.stdout.write('ready');
    process.stdin.resume();`);
  await firstOutput(child);
  await killStarted();
  cpSync(path, `${path}.away`);
  rmSync(path);
  const before = fingerprint(dir);
  assert.throws(() => openStore(path), { code: 'io_error', message: /is missing or empty, but .*-wal/ });
  assert.deepEqual(fingerprint(dir), before);
  cpSync(`${path}.away`, path);
  using store = openStore(path);
  assert.deepEqual(store.listVms(), []);
});

test('opening for writing rolls a hot journal back', () => {
  openStore(path).close();
  sql('PRAGMA journal_mode = DELETE');
  // The cache of one page makes SQLite write into the database before the transaction ends.
  const fill =
    'WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 3000) INSERT INTO images';
  const values = `SELECT i, i, 0, '', '/r', NULL, '/k', '', '', '', NULL, '', '' FROM c;`;
  const input = `PRAGMA cache_size = 1;\nBEGIN;\n${fill} ${values}\n.shell kill -9 $PPID\n`;
  assert.equal(spawnSync('sqlite3', [path], { input }).signal, 'SIGKILL');
  assert.ok(readdirSync(dir).includes('state.db-journal'));
  using store = openStore(path);
  assert.deepEqual(store.listImages(), []);
  store.upsertImage(someImage());
});
