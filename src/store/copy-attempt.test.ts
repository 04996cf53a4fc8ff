import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { attemptCopy, COPY_STEPS, type CopyAttempt, type CopyStep } from './copy-attempt.ts';
import { copyPlaces } from './private-copy.ts';

let dir = '';
let path = '';
let copies = '';
beforeEach(() => {
  dir = mkdtempSync(join(copyPlaces()[0] ?? '', 'attempt-'));
  path = join(dir, 'state.db');
  copies = join(dir, 'copies');
  mkdirSync(copies);
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

/** As another process, which ends with the last connection closed unless it is told otherwise. */
function sql(file: string, ...statements: readonly string[]): string {
  return execFileSync('sqlite3', [file, ...statements], { encoding: 'utf8' }).trim();
}

/** Ends the shell without closing the database: what it committed stays in the -wal. */
function sqlThenDie(file: string, ...statements: readonly string[]): void {
  const input = [...statements, '.shell kill -9 $PPID'].join('\n');
  assert.equal(spawnSync('sqlite3', [file], { input }).signal, 'SIGKILL');
}

/** Every row of a generation has the same number, in both tables and on many pages; so mixed moments show. */
const MAKE =
  'CREATE TABLE t (i INTEGER PRIMARY KEY, n INTEGER, filler BLOB);' +
  'WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400) INSERT INTO t SELECT i, 0, zeroblob(500) FROM c;' +
  'CREATE TABLE u (n INTEGER, note BLOB); INSERT INTO u VALUES (0, NULL);';
const RAISE = 'BEGIN; UPDATE t SET n = n + 1, filler = randomblob(500); UPDATE u SET n = n + 1; COMMIT;';

function momentOf(copy: string): string {
  return sql(
    copy,
    'PRAGMA integrity_check; SELECT count(*), min(n) = max(n) AND min(n) = (SELECT n FROM u) FROM t;',
  );
}

/** What may happen to the files between any two steps, in another process. */
const EVENTS: Readonly<Record<string, () => void>> = {
  'a commit into the -wal': () => sqlThenDie(path, RAISE),
  'a checkpoint': () => sqlThenDie(path, 'PRAGMA wal_checkpoint;'),
  'a commit and a checkpoint': () => sqlThenDie(path, RAISE, 'PRAGMA wal_checkpoint;'),
  'a restart of the -wal': () => sqlThenDie(path, 'PRAGMA wal_checkpoint(RESTART);', RAISE),
  'a restart and a checkpoint': () =>
    sqlThenDie(path, 'PRAGMA wal_checkpoint(RESTART);', RAISE, 'PRAGMA wal_checkpoint;'),
  'a truncated -wal': () => sqlThenDie(path, RAISE, 'PRAGMA wal_checkpoint(TRUNCATE);'),
  'the last connection closed': () => sql(path, RAISE),
  'closed, opened, checkpointed': () => {
    sql(path, RAISE);
    sqlThenDie(path, RAISE, 'PRAGMA wal_checkpoint;', RAISE);
  },
  'another journal mode': () => sql(path, 'PRAGMA journal_mode = DELETE;', RAISE),
  'a vacuum': () =>
    sqlThenDie(path, 'DELETE FROM t WHERE i % 2;', 'VACUUM;', 'PRAGMA wal_checkpoint(TRUNCATE);'),
  'another database in its place': () => {
    const other = join(dir, 'other.db');
    sql(other, 'PRAGMA journal_mode = WAL;', MAKE, RAISE, RAISE);
    for (const file of [`${path}-wal`, `${path}-shm`]) rmSync(file, { force: true });
    renameSync(other, path);
  },
  'the files removed': () => {
    for (const file of [path, `${path}-wal`, `${path}-shm`]) rmSync(file, { force: true });
  },
  'a hot journal': () => writeFileSync(`${path}-journal`, 'hot'),
};

const STATES: Readonly<Record<string, () => void>> = {
  'a -wal with commits': () => sqlThenDie(path, RAISE, 'PRAGMA wal_checkpoint;', RAISE),
  'a -wal with one page': () =>
    sqlThenDie(path, RAISE, 'PRAGMA wal_checkpoint(TRUNCATE);', 'UPDATE u SET note = randomblob(8);'),
  'an empty -wal': () => sqlThenDie(path, RAISE, 'PRAGMA wal_checkpoint(TRUNCATE);'),
  'no -wal': () => sql(path, RAISE),
};

const FILES = ['', '-wal', '-shm', '-journal'] as const;

/** The same files anew; made by SQLite once. */
function begin(prepare: () => void): void {
  const made = join(dir, 'made.db');
  for (const suffix of FILES) rmSync(path + suffix, { force: true });
  if (!existsSync(made)) {
    sql(path, 'PRAGMA journal_mode = WAL;', MAKE);
    prepare();
    for (const suffix of FILES) if (existsSync(path + suffix)) copyFileSync(path + suffix, made + suffix);
    return;
  }
  for (const suffix of FILES) if (existsSync(made + suffix)) copyFileSync(made + suffix, path + suffix);
}

/** Waits until the files' times are old enough to count; events do not. */
async function settled(attempt: () => CopyAttempt): Promise<CopyAttempt> {
  await sleep(30);
  return attempt();
}

for (const [state, prepare] of Object.entries(STATES)) {
  describe(`${state}; then, between two steps:`, () => {
    for (const [event, happen] of Object.entries(EVENTS)) {
      test(event, async () => {
        const outcomes: Partial<Record<CopyStep, string>> = {};
        for (const when of COPY_STEPS) {
          begin(prepare);
          const attempt = (): CopyAttempt =>
            attemptCopy(
              path,
              () => copies,
              (step) => {
                if (step === when) happen();
              },
            );
          // With a -wal nobody looks at times.
          const result = state.startsWith('a -wal') ? attempt() : await settled(attempt);
          outcomes[when] = result.outcome;
          if (result.outcome === 'copied') assert.match(momentOf(result.copy), /^ok\n(400|200)\|1$/, when);
          for (const file of [`${copies}/state.db-wal`, `${copies}/state.db-shm`])
            rmSync(file, { force: true });
        }
        // What changes the copied bytes from below may be accepted only where the -wal repairs it.
        if (!state.startsWith('a -wal') && !/^a (commit into|checkpoint$)/.test(event)) {
          assert.equal(outcomes.database, 'moved', JSON.stringify(outcomes));
        }
      });
    }
  });
}

test('another database beside the same -wal makes an attempt void at every step', () => {
  for (const when of COPY_STEPS) {
    rmSync(path, { force: true });
    sql(path, 'PRAGMA journal_mode = WAL;', MAKE);
    sqlThenDie(path, RAISE);
    const onStep = (step: CopyStep): void => {
      if (step !== when) return;
      copyFileSync(path, join(dir, 'other.db'));
      renameSync(join(dir, 'other.db'), path);
    };
    assert.equal(attemptCopy(path, () => copies, onStep).outcome, 'moved', when);
  }
});

test('a copy that cannot be written is no damage of the original', async () => {
  sql(path, MAKE);
  mkdirSync(`${copies}/state.db`);
  await settled(() => {
    assert.throws(() => attemptCopy(path, () => copies), {
      code: 'unavailable',
      message: /: is a directory$/,
    });
    return { outcome: 'absent' };
  });
  rmSync(`${copies}/state.db`, { recursive: true });
  symlinkSync('/dev/full', `${copies}/state.db`);
  assert.throws(() => attemptCopy(path, () => copies), { code: 'no_space' });
});

test('a journal that appears makes an attempt void', async () => {
  sql(path, MAKE);
  const result = await settled(() =>
    attemptCopy(
      path,
      () => copies,
      (step) => {
        if (step === 'wal') writeFileSync(`${path}-journal`, 'hot');
      },
    ),
  );
  assert.equal(result.outcome, 'moved');
  assert.equal(attemptCopy(path, () => copies).outcome, 'unreadable');
});

test('a database whose times are those of this instant is not copied', async () => {
  sql(path, MAKE);
  // A second is enough for one of a hundred attempts to be looked at within 20 ms of the change.
  const outcomes = Array.from({ length: 100 }, () => {
    chmodSync(path, 0o600);
    return attemptCopy(path, () => copies).outcome;
  });
  assert.ok(outcomes.includes('moved'), outcomes[0]);
  assert.equal((await settled(() => attemptCopy(path, () => copies))).outcome, 'copied');
  assert.ok(!existsSync(`${copies}/state.db-wal`));
});
