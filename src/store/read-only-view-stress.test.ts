import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { afterEach, test } from 'node:test';
import { firstOutput, killNode, killStarted, startNode } from '../../test/helpers/node-child.ts';
import { BangerError } from '../core/errors.ts';
import { openReadOnlyView } from './read-only-view.ts';

afterEach(killStarted);

/** All of it: STRESS_SECONDS=15. */
const SECONDS = Number(process.env['STRESS_SECONDS'] ?? 3);

/**
 * Commits without a pause: a row of `log` and the same number in both rows of `pair`, with enough bytes to move pages
 * about; and checkpoints, truncates, vacuums and reopens whenever it feels like it.
 */
function walWriter(path: string): string {
  return `
    const { DatabaseSync } = await import('node:sqlite');
    let database;
    const open = () => {
      database = new DatabaseSync(${JSON.stringify(path)}, { timeout: 5000 });
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 40');
    };
    open();
    database.exec('CREATE TABLE pair (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO pair VALUES (1, 0), (2, 0);' +
      'CREATE TABLE log (n INTEGER PRIMARY KEY, filler BLOB); CREATE INDEX by_filler ON log (filler)');
    process.stdout.write('ready');
    for (let n = 1; ; n += 1) {
      database.exec('BEGIN IMMEDIATE');
      database.prepare('INSERT INTO log VALUES (?, randomblob(?))').run(n, n % 3000);
      database.prepare('UPDATE log SET filler = randomblob(length(filler)) WHERE n > ? AND n % 7 = 0').run(n - 50);
      database.prepare('UPDATE pair SET n = ?').run(n);
      database.exec('COMMIT');
      const dice = Math.floor(Math.random() * 100);
      if (dice < 10) database.exec('PRAGMA wal_checkpoint(' + ['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'][dice % 4] + ')');
      if (dice === 20) { database.close(); open(); }
      if (dice === 21 && n % 5 === 0) database.exec('VACUUM');
      if (n % 2000 === 0) database.exec('DELETE FROM log WHERE n < ' + (n - 1) + '; VACUUM');
    }`;
}

/** With a rollback journal and pauses: what is written is only told by the times of the file. */
function journalWriter(path: string): string {
  return `
    const { DatabaseSync } = await import('node:sqlite');
    const database = new DatabaseSync(${JSON.stringify(path)}, { timeout: 5000 });
    database.exec('CREATE TABLE pair (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO pair VALUES (1, 0), (2, 0);' +
      'CREATE TABLE log (n INTEGER PRIMARY KEY, filler BLOB); PRAGMA synchronous = OFF');
    process.stdout.write('ready');
    for (let n = 1; ; n += 1) {
      database.exec('BEGIN IMMEDIATE');
      database.prepare('INSERT INTO log VALUES (?, randomblob(?))').run(n, 20000);
      database.prepare('UPDATE pair SET n = ?').run(n);
      database.exec('COMMIT');
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 60));
    }`;
}

interface Tally {
  reads: number;
  busy: number;
  readonly bad: string[];
  longestMs: number;
}

/** The number both rows of `pair` have, or what is wrong with this moment of the database. */
function momentOf(database: DatabaseSync, last: number): number | string {
  const check = database.prepare('PRAGMA integrity_check').get()?.['integrity_check'];
  if (check !== 'ok') return `integrity_check: ${String(check)}`;
  const [first, second] = database.prepare('SELECT n FROM pair ORDER BY id').all();
  const highest = database.prepare('SELECT max(n) AS n FROM log').get()?.['n'] ?? 0;
  if (first?.['n'] !== second?.['n'] || first?.['n'] !== highest) {
    return `mixed moments: ${String(first?.['n'])}, ${String(second?.['n'])}, ${String(highest)}`;
  }
  return Number(highest) < last ? `${String(highest)} after ${last}` : Number(highest);
}

async function readFor(
  seconds: number,
  path: string,
  places: readonly string[],
): Promise<Tally & { last: number }> {
  const tally = { reads: 0, busy: 0, bad: [] as string[], longestMs: 0, last: 0 };
  for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
    const begin = performance.now();
    try {
      using view = await openReadOnlyView(path, { places });
      tally.reads += 1;
      const moment = view === undefined ? 'no database' : momentOf(view.database, tally.last);
      if (typeof moment === 'number') tally.last = moment;
      else tally.bad.push(moment);
    } catch (error) {
      if (error instanceof BangerError && error.code === 'unavailable') tally.busy += 1;
      else tally.bad.push(String(error));
    }
    tally.longestMs = Math.max(tally.longestMs, performance.now() - begin);
  }
  return tally;
}

for (const [name, writer, seconds] of [
  ['a checkpointing WAL writer', walWriter, SECONDS],
  ['a writer with a rollback journal', journalWriter, SECONDS / 3],
] as const) {
  test(`${seconds} s beside ${name}: no bad read`, async (context) => {
    const dir = mkdtempSync(join(tmpdir(), 'stress-'));
    const path = join(dir, 'state.db');
    const places = [mkdtempSync(join(dir, 'copies-'))];
    const child = startNode(writer(path));
    await firstOutput(child);
    const tally = await readFor(seconds, path, places);
    await killNode(child);
    const { reads, busy, last, longestMs } = tally;
    context.diagnostic(
      `${reads} reads, ${tally.bad.length} bad, ${busy} given up, longest ${Math.round(longestMs)} ms, up to commit ${last}`,
    );
    assert.deepEqual(tally.bad, []);
    assert.equal(busy, 0);
    assert.ok(reads > 0 && last > 0);
    assert.deepEqual(readdirSync(places[0] ?? ''), []);
    rmSync(dir, { recursive: true });
  });
}
