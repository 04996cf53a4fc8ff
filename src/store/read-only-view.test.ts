import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { BangerError, type ErrorCode } from '../core/errors.ts';
import { fingerprint } from '../../test/helpers/fingerprint.ts';
import { firstOutput, killNode, killStarted, startNode, wholeOutput } from '../../test/helpers/node-child.ts';
import { copyPlaces } from './private-copy.ts';
import { openReadOnlyView, openReadOnlyViewSync, type ReadOnlyView } from './read-only-view.ts';
import { viewSource } from './state-source.ts';

let root = '';
let dir = '';
let path = '';
let places: readonly string[] = [];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'view-'));
  chmodSync(root, 0o755);
  dir = join(root, 'state');
  mkdirSync(dir, { mode: 0o700 });
  path = join(dir, 'state.db');
  places = [join(root, 'copies')];
  mkdirSync(join(root, 'copies'), { mode: 0o1777 });
  chmodSync(join(root, 'copies'), 0o1777);
});
afterEach(async () => {
  await killStarted();
  chmodSync(dir, 0o700);
  const left = readdirSync(join(root, 'copies'));
  rmSync(root, { recursive: true });
  assert.deepEqual(left, [], 'a copy was left');
});

/** `from` to `to`, one row each. */
const insertRows = (from: number, to: number): string =>
  `WITH RECURSIVE n(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${to}) INSERT INTO rows SELECT i FROM n`;
const MAKE = 'CREATE TABLE rows (i INTEGER PRIMARY KEY)';

/** A script whose process has `path` open and has run `statements`; then it says `ready` and stays. */
function holder(journalMode: string, ...statements: readonly string[]): string {
  return `
    const { DatabaseSync } = await import('node:sqlite');
    const database = new DatabaseSync(${JSON.stringify(path)});
    database.exec('PRAGMA journal_mode = ${journalMode}; PRAGMA wal_autocheckpoint = 0');
    for (const sql of ${JSON.stringify(statements)}) database.exec(sql);
    process.stdout.write('ready');
    process.stdin.resume();
    process.stdin.on('end', () => { database.close(); process.exit(0); });`;
}

/** 100 rows in the database and 50 more in the -wal only. */
const UNCHECKPOINTED = [MAKE, insertRows(1, 100), 'PRAGMA wal_checkpoint(TRUNCATE)', insertRows(101, 150)];

function makeClean(): void {
  using database = new DatabaseSync(path);
  database.exec(`PRAGMA journal_mode = WAL; ${MAKE}; ${insertRows(1, 150)}`);
}

async function killWriter(journalMode: string, ...statements: readonly string[]): Promise<void> {
  const writer = startNode(holder(journalMode, ...statements));
  await firstOutput(writer);
  await killNode(writer);
}

function countRows(view: ReadOnlyView | undefined): unknown {
  const row = view?.database.prepare('SELECT count(*) AS count FROM rows').get();
  const check = view?.database.prepare('PRAGMA integrity_check').get()?.['integrity_check'];
  return check === 'ok' ? row?.['count'] : check;
}

/** Both ways of opening one. */
async function viewsOf(file = path): Promise<readonly unknown[]> {
  using first = await openReadOnlyView(file, { places });
  using second = openReadOnlyViewSync(file, { places });
  return [countRows(first), countRows(second)];
}

async function rejection(promise: Promise<unknown>, code: ErrorCode, message: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof BangerError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.ok(error.message.includes(path), 'the original is named');
    assert.ok(!error.message.includes('copies'), 'the copy is not');
    return true;
  });
}

describe('not one byte changes, and committed rows are seen:', () => {
  test('a clean WAL database', async () => {
    makeClean();
    const before = fingerprint(dir);
    assert.deepEqual(await viewsOf(), [150, 150]);
    assert.deepEqual(fingerprint(dir), before);
    assert.deepEqual(readdirSync(dir), ['state.db']);
  });

  test('a live writer with rows that are not checkpointed', async () => {
    const writer = startNode(holder('WAL', ...UNCHECKPOINTED));
    await firstOutput(writer);
    const before = fingerprint(dir);
    assert.equal(before.length, 4, 'the directory, state.db, -wal, -shm');
    assert.deepEqual(await viewsOf(), [150, 150]);
    assert.deepEqual(fingerprint(dir), before);
    writer.stdin.end();
    await once(writer, 'exit');
  });

  test('after kill -9 of a writer', async () => {
    await killWriter('WAL', ...UNCHECKPOINTED, 'BEGIN', insertRows(151, 200));
    assert.ok(statSync(`${path}-wal`).size > 0);
    const before = fingerprint(dir);
    assert.deepEqual(await viewsOf(), [150, 150]);
    assert.deepEqual(fingerprint(dir), before);
  });

  test('after kill -9, and the -shm is gone', async () => {
    await killWriter('WAL', ...UNCHECKPOINTED);
    unlinkSync(`${path}-shm`);
    const before = fingerprint(dir);
    assert.deepEqual(await viewsOf(), [150, 150]);
    assert.deepEqual(fingerprint(dir), before);
  });

  for (const state of ['clean', 'with an un-checkpointed -wal']) {
    const options = process.getuid?.() === 0 ? {} : { skip: 'needs root, to become another user' };
    test(`a 0555 directory as another uid, ${state}`, options, async () => {
      if (state === 'clean') makeClean();
      else await killWriter('WAL', ...UNCHECKPOINTED);
      for (const name of readdirSync(dir)) chmodSync(join(dir, name), 0o644);
      chmodSync(dir, 0o555);
      const before = fingerprint(dir);
      const child = startNode(`
        const { openReadOnlyView } = await import(${JSON.stringify(new URL('./read-only-view.ts', import.meta.url))});
        process.setgroups([]); process.setgid(65534); process.setuid(65534);
        using view = await openReadOnlyView(${JSON.stringify(path)}, ${JSON.stringify({ places })});
        console.log(process.getuid(), view.database.prepare('SELECT count(*) AS count FROM rows').get().count);`);
      assert.equal(await wholeOutput(child), '65534 150\n');
      assert.deepEqual(fingerprint(dir), before);
    });
  }

  test('no database: undefined', async () => {
    const before = fingerprint(dir);
    assert.deepEqual(await viewsOf(), [undefined, undefined]);
    assert.deepEqual(await viewsOf(join(dir, 'missing/state.db')), [undefined, undefined]);
    assert.deepEqual(fingerprint(dir), before);
    assert.equal(await viewSource(path, { places }).read(() => 'work was called'), undefined);
  });

  test('an empty file: a database without tables', async () => {
    writeFileSync(path, '');
    const before = fingerprint(dir);
    const source = viewSource(path, { places });
    assert.equal(
      await source.read(
        (database) => database.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.['n'],
      ),
      0,
    );
    assert.deepEqual(fingerprint(dir), before);
  });

  test('an orphan -wal, without its database or beside an empty one', async () => {
    await killWriter('WAL', ...UNCHECKPOINTED);
    unlinkSync(path);
    const before = fingerprint(dir);
    await rejection(openReadOnlyView(path, { places }), 'io_error', /is missing or empty, but .*-wal/);
    assert.deepEqual(fingerprint(dir), before);
    writeFileSync(path, '');
    await rejection(openReadOnlyView(path, { places }), 'io_error', /is missing or empty, but .*-wal/);
  });

  test('a hot rollback journal is refused, and says what to do', async () => {
    // A cache of one page: SQLite writes to the database before the transaction ends.
    const change = 'UPDATE rows SET i = i + 1000000';
    await killWriter('DELETE', MAKE, insertRows(1, 5000), 'PRAGMA cache_size = 1', 'BEGIN', change);
    assert.ok(statSync(`${path}-journal`).size > 0);
    const before = fingerprint(dir);
    await rejection(openReadOnlyView(path, { places }), 'invalid_state', /must be rolled back before/);
    await assert.rejects(openReadOnlyView(path, { places }), { hint: /banger daemon start/ });
    assert.deepEqual(fingerprint(dir), before);
    // What it would have read, had it not: SQLite's own rollback gives the committed rows back.
    assert.equal(
      spawnSync('sqlite3', [path, 'SELECT max(i) FROM rows'], { encoding: 'utf8' }).stdout,
      '5000\n',
    );
    assert.deepEqual(await viewsOf(), [5000, 5000]);
  });
});

describe('what cannot be read:', () => {
  test('a symbolic link, a FIFO, a directory; in the place of the -wal too', async () => {
    for (const file of [path, `${path}-wal`]) {
      if (file !== path) makeClean();
      symlinkSync(join(dir, 'elsewhere'), file);
      await rejection(
        openReadOnlyView(path, { places }),
        'permission',
        /not a regular file, but a symbolic link/,
      );
      unlinkSync(file);
      assert.equal(spawnSync('mkfifo', [file]).status, 0);
      await rejection(openReadOnlyView(path, { places }), 'permission', /not a regular file$/);
      unlinkSync(file);
      mkdirSync(file);
      await rejection(openReadOnlyView(path, { places }), 'permission', /not a regular file$/);
      rmSync(file, { recursive: true });
    }
  });

  test('too large', async () => {
    makeClean();
    truncateSync(path, 4 * 1024 ** 3 + 1);
    await rejection(openReadOnlyView(path, { places }), 'limit_exceeded', /too large/);
  });

  test('unreadable', { skip: process.getuid?.() === 0 ? false : 'needs root' }, async () => {
    makeClean();
    chmodSync(path, 0o600);
    chmodSync(dir, 0o755);
    const child = startNode(`
      const { openReadOnlyView } = await import(${JSON.stringify(new URL('./read-only-view.ts', import.meta.url))});
      process.setgroups([]); process.setgid(65534); process.setuid(65534);
      await openReadOnlyView(${JSON.stringify(path)}, ${JSON.stringify({ places })})
        .catch((error) => console.log(error.code, error.message));`);
    assert.equal(await wholeOutput(child), `permission cannot read ${path}: permission denied\n`);
  });

  test('not a database, or a damaged one', async () => {
    writeFileSync(path, 'this is not a database '.repeat(200));
    await rejection(openReadOnlyView(path, { places }), 'io_error', /is damaged: file is not a database/);
    rmSync(path);
    makeClean();
    const page = Buffer.alloc(8192);
    page.write('SQLite format 3\0');
    writeFileSync(path, page);
    await rejection(openReadOnlyView(path, { places }), 'io_error', /is damaged/);
  });

  test('damage that shows only later is told of the original too', async () => {
    makeClean();
    const size = statSync(path).size;
    truncateSync(path, size - 4096);
    const source = viewSource(path, { places });
    const read = source.read((database) => database.prepare('SELECT count(*) FROM rows').get());
    await rejection(read, 'io_error', /is damaged/);
  });

  test('always being written: given up in bounded time', async () => {
    makeClean();
    // As good as a writer: its times are those of this instant, unless this process is not run for a while.
    const touch = setInterval(() => chmodSync(path, 0o600), 1);
    let refusal: unknown;
    try {
      for (let tries = 0; refusal === undefined && tries < 30; tries += 1) {
        refusal = await openReadOnlyView(path, { places, timeoutMs: 40 }).then(
          (view) => view?.[Symbol.dispose](),
          (error: unknown) => error,
        );
      }
    } finally {
      clearInterval(touch);
    }
    assert.ok(refusal instanceof BangerError && refusal.code === 'unavailable', String(refusal));
    assert.match(refusal.message, /all the time/);
    assert.deepEqual(await viewsOf(), [150, 150]);
  });

  test('a cancelled read', async () => {
    writeFileSync(`${path}-journal`, 'hot');
    const signal = AbortSignal.timeout(10);
    await rejection(openReadOnlyView(path, { places, signal }), 'cancelled', /was cancelled/);
  });

  test('no room for the copy anywhere', async () => {
    makeClean();
    const nowhere = [join(dir, 'none'), '/proc'];
    await assert.rejects(openReadOnlyView(path, { places: nowhere }), (error) => {
      return error instanceof BangerError && error.code === 'no_space' && error.message.includes('/proc: ');
    });
  });
});

describe('the copy', () => {
  test('is private, refuses writes, and is gone afterwards', async () => {
    await killWriter('WAL', ...UNCHECKPOINTED);
    const view = await openReadOnlyView(path, { places });
    const [name] = readdirSync(join(root, 'copies'));
    const copyDir = join(root, 'copies', name ?? '');
    assert.equal(statSync(copyDir).mode & 0o7777, 0o700);
    for (const file of readdirSync(copyDir))
      assert.equal(statSync(join(copyDir, file)).mode & 0o7777, 0o600, file);
    assert.throws(() => view?.database.exec('DELETE FROM rows'), /readonly|query_only|attempt to write/);
    assert.throws(() => view?.database.exec('CREATE TABLE t (x)'));
    view?.[Symbol.dispose]();
    view?.[Symbol.dispose]();
    assert.ok(!existsSync(copyDir));
  });

  test('is made in memory where there is some', () => {
    const memory = statSync('/dev/shm', { throwIfNoEntry: false })?.isDirectory() === true;
    const first = copyPlaces({})[0];
    assert.equal(first, memory ? '/dev/shm' : tmpdir());
    assert.equal(copyPlaces({ XDG_RUNTIME_DIR: dir }).includes(dir), false, 'not memory-backed');
    assert.equal(copyPlaces({ XDG_RUNTIME_DIR: 'relative' }).includes('relative'), false);
  });

  test('is somewhere else where the first place cannot have it', async () => {
    makeClean();
    using view = await openReadOnlyView(path, { places: ['/proc', ...places] });
    assert.equal(countRows(view), 150);
  });

  test('left by a killed process is swept by the next view; a live one’s stays', async () => {
    makeClean();
    const script = `
      const { openReadOnlyView } = await import(${JSON.stringify(new URL('./read-only-view.ts', import.meta.url))});
      globalThis.view = await openReadOnlyView(${JSON.stringify(path)}, ${JSON.stringify({ places })});
      process.stdout.write('ready');
      process.stdin.resume();`;
    const [dead, live] = [startNode(script), startNode(script)];
    await Promise.all([firstOutput(dead), firstOutput(live)]);
    await killNode(dead);
    assert.equal(readdirSync(join(root, 'copies')).length, 2);
    writeFileSync(join(root, 'copies/.other.tmp-1-1-000000000000'), 'not of this kind');
    assert.deepEqual(await viewsOf(), [150, 150]);
    const left = readdirSync(join(root, 'copies'));
    assert.equal(left.length, 2);
    assert.ok(left.some((name) => name.includes(`.tmp-${live.pid}-`)));
    await killNode(live);
    await viewsOf();
    rmSync(join(root, 'copies/.other.tmp-1-1-000000000000'));
  });
});

test('a database that is replaced between two attempts is read whole', async () => {
  makeClean();
  writeFileSync(`${path}-journal`, 'hot for a moment');
  const opening = openReadOnlyView(path, { places });
  const other = join(dir, 'other.db');
  using database = new DatabaseSync(other);
  database.exec(`${MAKE}; ${insertRows(1, 7)}`);
  database.close();
  renameSync(other, path);
  unlinkSync(`${path}-journal`);
  using view = await opening;
  assert.equal(countRows(view), 7);
});

test('a database that vanishes between two attempts was not there', async () => {
  makeClean();
  writeFileSync(`${path}-journal`, 'hot for a moment');
  const opening = openReadOnlyView(path, { places });
  unlinkSync(path);
  unlinkSync(`${path}-journal`);
  assert.equal(await opening, undefined);
});

test('a read is one transaction: no writes, no nesting, nothing asynchronous', async () => {
  makeClean();
  const source = viewSource(path, { places });
  assert.equal(await source.read((database) => database.isTransaction), true);
  await assert.rejects(source.read((database) => database.exec('DELETE FROM rows')));
  await assert.rejects(
    source.read(async () => 1),
    /must be synchronous/,
  );
  await assert.rejects(
    source.read(() => {
      throw new Error('of the work');
    }),
    /of the work/,
  );
});
