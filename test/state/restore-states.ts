/** What a restore may meet in a state directory, made once and copied for each case; and what is there after it. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { acquireInstanceLock } from '../../src/host/instance-lock.ts';
import { bootstrap, type BootstrapOptions, type Restored } from '../../src/state/bootstrap.ts';
import { exportState } from '../../src/state/export.ts';
import { settleRestore } from '../../src/state/settle.ts';
import { MIGRATIONS } from '../../src/store/migrations/list.ts';
import { migrate } from '../../src/store/migrations/run.ts';
import { openDatabase } from '../../src/store/open.ts';
import { openStore } from '../../src/store/store.ts';
import { someImage, someVm } from '../helpers/store-records.ts';

export const OLD_STATES = ['absent', 'empty', 'clean', 'crashed', 'orphan-wal', 'damaged'] as const;
export type OldState = (typeof OLD_STATES)[number];

/** Those a restore replaces without being told to. */
export const FRESH_STATES: readonly OldState[] = ['absent', 'empty'];

export interface Snapshot {
  readonly data: Buffer;
  readonly manifestBytes: Buffer;
  readonly digest: string;
}

export interface States {
  /** One directory for each state. */
  readonly dir: string;
  /** What is restored: later than every old state. */
  readonly snapshot: Snapshot;
  /** Digest of the canonical dump of the old states that can be opened. */
  readonly oldDigests: Readonly<Partial<Record<OldState, string>>>;
}

const SNAPSHOT_FILE = 'snapshot';
const DIGESTS_FILE = 'digests.json';

/** Makes a directory of each state in `dir`, and the snapshot. */
export function makeStates(dir: string): States {
  for (const state of OLD_STATES) mkdirSync(join(dir, state), { recursive: true, mode: 0o700 });
  const path = (state: OldState): string => join(dir, state, 'state.db');
  writeFileSync(path('empty'), '', { mode: 0o600 });
  fill(path('clean'), 'clean', 5);
  crash(path('crashed'));
  copyFileSync(`${path('crashed')}-wal`, `${path('orphan-wal')}-wal`);
  writeFileSync(path('damaged'), `not a database ${'x'.repeat(9000)}`, { mode: 0o600 });
  writeFileSync(`${path('damaged')}-wal`, 'nor a log', { mode: 0o600 });
  fill(join(dir, 'source.db'), 'new', 1000);
  const snapshot = exportOf(join(dir, 'source.db'));
  writeFileSync(join(dir, SNAPSHOT_FILE), snapshot.data);
  writeFileSync(join(dir, `${SNAPSHOT_FILE}.manifest`), snapshot.manifestBytes);
  const digestOf = (state: OldState): string => {
    const copy = join(dir, 'copy');
    resetTo(join(dir, state), copy);
    const digest = dumpDigest(join(copy, 'state.db'));
    rmSync(copy, { recursive: true });
    return digest;
  };
  const oldDigests = { clean: digestOf('clean'), crashed: digestOf('crashed') };
  assert.notEqual(oldDigests.clean, oldDigests.crashed);
  writeFileSync(join(dir, DIGESTS_FILE), JSON.stringify(oldDigests));
  return { dir, snapshot, oldDigests };
}

/** Those another process made. */
export function readStates(dir: string): States {
  const data = readFileSync(join(dir, SNAPSHOT_FILE));
  const manifestBytes = readFileSync(join(dir, `${SNAPSHOT_FILE}.manifest`));
  const { checksum } = JSON.parse(manifestBytes.toString()) as { checksum: string };
  const oldDigests = JSON.parse(readFileSync(join(dir, DIGESTS_FILE), 'utf8')) as States['oldDigests'];
  return { dir, snapshot: { data, manifestBytes, digest: checksum }, oldDigests };
}

/** A closed store with some rows and the control version. */
export function fill(path: string, name: string, controlVersion: number): void {
  const store = openStore(path);
  const image = someImage({ name });
  store.upsertImage(image);
  for (const suffix of ['a', 'b', 'c']) {
    store.insertVm(someVm(image.id, { name: `${name}-${suffix}` }), '172.16.0');
  }
  store.close();
  const database = openDatabase(path);
  database.exec(`PRAGMA user_version = ${controlVersion}`);
  database.close();
}

/** A writer that was killed: rows in the log, a -shm that nobody owns, and less in the database itself. */
function crash(path: string): void {
  fill(path, 'crashed', 5);
  const url = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
  const script = `
    const { openStore } = await import(${url('../../src/store/store.ts')});
    const { someImage } = await import(${url('../helpers/store-records.ts')});
    const store = openStore(${JSON.stringify(path)});
    for (let i = 0; i < 4; i += 1) store.upsertImage(someImage({ name: 'in-the-log-' + i }));
    process.kill(process.pid, 'SIGKILL');`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  assert.equal(child.signal, 'SIGKILL', child.stderr);
  assert.deepEqual(readdirSync(join(path, '..')), ['state.db', 'state.db-shm', 'state.db-wal']);
}

function exportOf(path: string): Snapshot {
  const database = openDatabase(path);
  const { data, manifest, manifestBytes } = exportState(database, {
    migrations: MIGRATIONS,
    version: '1.0.0',
    encoding: 'identity',
    createdAt: '2026-01-31T12:00:00.000Z',
  });
  database.close();
  return { data, manifestBytes, digest: manifest.checksum };
}

/** Makes `to` hold the very files of `from` and nothing else. */
export function resetTo(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { mode: 0o700 });
  for (const name of readdirSync(from)) cpSync(join(from, name), join(to, name), { recursive: true });
}

/** Restores as the program does. */
export async function restoreInto(
  dir: string,
  snapshot: Snapshot,
  force: boolean,
  options: Partial<BootstrapOptions> = {},
): Promise<Restored> {
  return await bootstrap(
    snapshot.data,
    snapshot.manifestBytes,
    join(dir, 'state.db'),
    (database) => migrate(database, database.location() ?? '', MIGRATIONS),
    force,
    { migrations: MIGRATIONS, lockPath: join(dir, 'bangerd.lock'), holder: { pid: process.pid }, ...options },
  );
}

/** The digest of a state database of our own schema version. */
export function dumpDigest(path: string): string {
  using database = openDatabase(path);
  return exportState(database, {
    migrations: MIGRATIONS,
    version: '1.0.0',
    encoding: 'identity',
    createdAt: '2026-01-31T12:00:00.000Z',
  }).manifest.checksum;
}

/** Name and content of every file of a state directory but those of the lock. */
export function fingerprint(dir: string): Readonly<Record<string, string>> {
  const names = readdirSync(dir).filter((name) => !name.startsWith('bangerd.lock'));
  return Object.fromEntries(
    names.sort().map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(dir, name)))
        .digest('hex'),
    ]),
  );
}

export interface Found {
  readonly state: 'old' | 'new';
  /** Names of files, where a time is in a name, without it; without the lock. */
  readonly listing: readonly string[];
  /** Not one byte differs from the old state. */
  readonly untouched: boolean;
}

/** Starts as the daemon does (lock, settle, open) and says what is there then. Throws when it is neither. */
export async function startAndLook(dir: string, old: OldState, states: States): Promise<Found> {
  const path = join(dir, 'state.db');
  const lock = await acquireInstanceLock(join(dir, 'bangerd.lock'), { pid: process.pid });
  try {
    await settleRestore(path);
    const untouched = JSON.stringify(fingerprint(dir)) === JSON.stringify(fingerprint(join(states.dir, old)));
    // The very files whose digest is known, where they have one.
    if (untouched) return { state: 'old', listing: expectedListing(old, 'old', states), untouched };
    assert.ok(existsSync(path), `nothing that can be opened: ${listingOf(dir).join(' ')}`);
    const digest = dumpDigest(path);
    const listing = listingOf(dir);
    if (digest === states.snapshot.digest) return { state: 'new', listing, untouched };
    assert.equal(digest, states.oldDigests[old], 'neither the old state nor the new one');
    return { state: 'old', listing, untouched };
  } finally {
    lock.release();
  }
}

export function listingOf(dir: string): readonly string[] {
  const shown = readdirSync(dir).filter((name) => !name.startsWith('bangerd.lock'));
  return shown.map((name) => name.replace(/\.pre-restore-\d{8}T\d{6}Z(-\d+)?/, '.pre-restore')).sort();
}

const KEPT: Readonly<Record<OldState, readonly string[]>> = {
  absent: [],
  empty: [],
  clean: ['state.db.pre-restore'],
  crashed: ['state.db.pre-restore'],
  'orphan-wal': ['state.db.pre-restore-wal'],
  damaged: ['state.db.pre-restore', 'state.db.pre-restore-wal'],
};

/** What may be in the directory, and nothing else. */
export function expectedListing(old: OldState, state: 'old' | 'new', states: States): readonly string[] {
  if (state === 'new') return ['state.db', ...KEPT[old]];
  return states.oldDigests[old] === undefined ? listingOf(join(states.dir, old)) : ['state.db'];
}
