/** (h–j) state snapshots against the stock sqlite3's dump and load of the same database. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { VERSION } from '../src/core/buildinfo.ts';
import { now } from '../src/host/clock.ts';
import * as snapshot from '../src/state/snapshot.ts';
import { MIGRATIONS } from '../src/store/migrations/list.ts';
import { migrate } from '../src/store/migrations/run.ts';
import { openDatabase } from '../src/store/open.ts';
import { viewSource } from '../src/store/state-source.ts';
import { openStore } from '../src/store/store.ts';
import { fillState } from '../test/helpers/big-state.ts';
import { bar, columns, heading, row } from './lib/report.ts';
import { interleave, median, summarize, timed } from './lib/stats.ts';

const BIG_MB = 101;
const RUNS = 5;
const SMALL_RUNS = 20;
const MAX_EXPORT_RATIO = 3;
const MAX_RESTORE_RATIO = 1;
const MAX_SMALL_MS = 250;
const MAX_READ_MS = 50;

interface Exported {
  readonly data: Buffer;
  readonly manifestBytes: Buffer;
}

export async function stateBench(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'bs-'));
  try {
    await big(dir);
    await small(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

async function big(dir: string): Promise<void> {
  const path = filled(join(dir, 'big'), BIG_MB);
  heading(
    `State of ${(statSync(path).size / 1e6).toFixed(0)} MB: to a file, and from it to a database in place`,
  );
  columns();
  const dumpAndLoad = (): Promise<number> =>
    inNewDir(dir, (to) => sqlite3DumpAndLoad(path, join(to, 'copy.db')));
  const data = await exported(path);
  const exports = await interleave(RUNS, dumpAndLoad, () =>
    inNewDir(dir, async (to) => writeDurably(join(to, 'payload'), (await exported(path)).data)),
  );
  const restores = await interleave(RUNS, dumpAndLoad, () => inNewDir(dir, (to) => restored(data, to)));
  const baseline = [...exports.a, ...restores.a];
  row('sqlite3 OLD .dump | sqlite3 NEW', summarize(baseline));
  row('(h) view, export, written to disk', summarize(exports.b));
  row('(i) verify, restore, check, put in place', summarize(restores.b));
  const exportRatio = median(exports.b) / median(exports.a);
  const restoreRatio = median(restores.b) / median(restores.a);
  bar(
    `(h) at most ${MAX_EXPORT_RATIO} × the sqlite3 pair: ${exportRatio.toFixed(2)} ×`,
    exportRatio <= MAX_EXPORT_RATIO,
  );
  bar(
    `(i) at most ${MAX_RESTORE_RATIO} × the sqlite3 pair: ${restoreRatio.toFixed(2)} ×`,
    restoreRatio <= MAX_RESTORE_RATIO,
  );
}

async function small(dir: string): Promise<void> {
  const path = filled(join(dir, 'small'), 1);
  heading(`State of ${(statSync(path).size / 1e6).toFixed(1)} MB`);
  columns();
  const whole = await interleave(
    SMALL_RUNS,
    () => inNewDir(dir, (to) => sqlite3DumpAndLoad(path, join(to, 'copy.db'))),
    () => inNewDir(dir, async (to) => restored(await exported(path), to)),
  );
  const read = await interleave(
    SMALL_RUNS,
    () => timed(() => look(path)),
    () => timed(() => look(path)),
  );
  row('sqlite3 OLD .dump | sqlite3 NEW', summarize(whole.a));
  row('(j) export, verify, restore, put in place', summarize(whole.b));
  row("(k) doctor's read: view, integrity, every row", summarize([...read.a, ...read.b]));
  bar(`(j) p50 under ${MAX_SMALL_MS} ms`, median(whole.b) < MAX_SMALL_MS);
  bar(`(k) p50 under ${MAX_READ_MS} ms`, median([...read.a, ...read.b]) < MAX_READ_MS);
}

/** The path of a new state database of about that size, closed. */
function filled(dir: string, megabytes: number): string {
  mkdirSync(dir, { mode: 0o700 });
  const path = join(dir, 'state.db');
  openStore(path).close();
  using database = openDatabase(path);
  fillState(database, megabytes);
  return path;
}

async function exported(path: string): Promise<Exported> {
  const options = {
    migrations: MIGRATIONS,
    version: VERSION,
    encoding: 'identity',
    createdAt: now(),
  } as const;
  const made = await viewSource(path).read((database) => snapshot.export(database, options));
  if (made === undefined) throw new Error(`${path} is gone`);
  return made;
}

async function restored({ data, manifestBytes }: Exported, dir: string): Promise<void> {
  const path = join(dir, 'state.db');
  const bringUp = (database: DatabaseSync): void => migrate(database, path, MIGRATIONS);
  await snapshot.bootstrap(data, manifestBytes, path, bringUp, false, {
    migrations: MIGRATIONS,
    lockPath: join(dir, 'lock'),
    holder: { pid: process.pid },
  });
}

async function look(path: string): Promise<void> {
  await viewSource(path).read((database) => {
    database.prepare('PRAGMA integrity_check').all();
    database.prepare('PRAGMA foreign_key_check').all();
    database.prepare('SELECT * FROM images').all();
    database.prepare('SELECT * FROM vms').all();
  });
}

/** What the work takes, in a directory of its own that is removed outside of the measure. */
async function inNewDir(parent: string, work: (dir: string) => Promise<unknown>): Promise<number> {
  const dir = mkdtempSync(join(parent, 'run-'));
  try {
    return await timed(() => work(dir));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

async function sqlite3DumpAndLoad(from: string, to: string): Promise<void> {
  const dump = spawn('sqlite3', [from, '.dump'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const load = spawn('sqlite3', [to], { stdio: [dump.stdout, 'ignore', 'inherit'] });
  const [dumped, loaded] = await Promise.all([once(dump, 'exit'), once(load, 'exit')]);
  if (dumped[0] !== 0 || loaded[0] !== 0) throw new Error('sqlite3 failed');
}

async function writeDurably(path: string, data: Buffer): Promise<void> {
  writeFileSync(path, data);
  const descriptor = openSync(path, 'r');
  fsyncSync(descriptor);
  closeSync(descriptor);
}
