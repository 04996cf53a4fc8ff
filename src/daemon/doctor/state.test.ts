import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { daemonOf, DoctorHome } from '../../../test/helpers/doctor-home.ts';
import type { StateVerified } from '../../api/results/state.ts';
import { BangerError } from '../../core/errors.ts';
import { exportState } from '../../state/export.ts';
import { writeRestorePlan } from '../../state/restore-plan.ts';
import { SnapshotCollection } from '../../state/snapshot-collection.ts';
import { MIGRATIONS } from '../../store/migrations/list.ts';
import { openReadOnlyView } from '../../store/read-only-view.ts';

const NEWEST = String(MIGRATIONS.at(-1)?.id);
const IN_DATABASE = ['version', 'schema', 'integrity', 'foreign-keys', 'rows', 'free-pages'];
const root = process.geteuid?.() === 0;

/** With the sqlite3 program: as something else than banger would. */
function sql(home: DoctorHome, ...statements: readonly string[]): void {
  execFileSync('sqlite3', [home.paths.stateDb, ...statements]);
}

async function populated(): Promise<DoctorHome> {
  const home = new DoctorHome();
  await home.populate();
  return home;
}

test('no database, and an empty file, are fine', async () => {
  using home = new DoctorHome();
  const all = ['database', 'journal', ...IN_DATABASE, 'restore-plan', 'temporaries', 'copies', 'snapshots'];
  for (const id of all) assert.match(await home.says(`state.${id}`), /^ok: /, id);
  assert.equal(await home.says('state.database'), 'ok: no database yet');
  home.makeDirectories();
  writeFileSync(home.paths.stateDb, '', { mode: 0o600 });
  for (const id of ['database', ...IN_DATABASE])
    assert.match(await home.says(`state.${id}`), /^ok: no database/, id);
});

test('a database as it should be', async () => {
  using home = await populated();
  assert.match(await home.says('state.database'), /^ok: .*state\.db, \d+ KiB$/);
  assert.equal(await home.says('state.version'), `ok: ${NEWEST}`);
  assert.equal(await home.says('state.schema'), `ok: as schema version ${NEWEST} has it`);
  assert.equal(await home.says('state.integrity'), 'ok: integrity_check: ok');
  assert.equal(await home.says('state.foreign-keys'), 'ok: foreign_key_check: ok');
  assert.equal(await home.says('state.rows'), 'ok: 1 VM, 1 image');
  assert.match(await home.says('state.free-pages'), /^ok: \d+ of \d+ pages are free/);
});

test('rows that were committed and not checkpointed are seen', async () => {
  using home = await populated();
  const script = `const { DatabaseSync } = require('node:sqlite'); const db = new DatabaseSync(process.argv[1]);
    db.exec("PRAGMA wal_autocheckpoint = 0; UPDATE vms SET spec_json = 'gone'"); process.kill(process.pid, 'SIGKILL');`;
  assert.throws(() =>
    execFileSync(process.execPath, ['-e', script, home.paths.stateDb], { stdio: 'ignore' }),
  );
  assert.ok(statSync(`${home.paths.stateDb}-wal`).size > 0);
  assert.match(await home.says('state.rows'), /^failure: the row of VM "dev" .* is damaged: spec_json/);
});

test('state.database: something that is no database, and a link', async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  writeFileSync(home.paths.stateDb, 'x'.repeat(5000), { mode: 0o600 });
  assert.match(
    await home.says('state.database'),
    /^failure: .*state\.db is damaged: file is not a database → .*state bootstrap.*state rebuild/,
  );
  for (const id of IN_DATABASE) assert.match(await home.says(`state.${id}`), /^info: not looked at/, id);
  rmSync(home.paths.stateDb);
  symlinkSync('/etc/passwd', home.paths.stateDb);
  assert.match(await home.says('state.database'), /^failure: .*symbolic link/);
});

test('state.database: a database that is missing while its -wal is there', async () => {
  using home = await populated();
  rmSync(home.paths.stateDb);
  writeFileSync(`${home.paths.stateDb}-wal`, 'x'.repeat(100));
  assert.match(await home.says('state.database'), /^failure: .*state\.db-wal \(100 bytes\) lies there/);
  rmSync(`${home.paths.stateDb}-wal`);
  writeFileSync(`${home.paths.stateDb}-shm`, 'x');
  assert.match(await home.says('state.database'), /^warning: .*is missing, but state\.db-shm lies there/);
});

test('state.database: one that only root can write', { skip: root && 'root writes any file' }, async () => {
  using home = await populated();
  chmodSync(home.paths.stateDb, 0o400);
  assert.match(await home.says('state.database'), /^failure: .*cannot be written/);
});

test('state.journal', async () => {
  using home = await populated();
  assert.equal(await home.says('state.journal'), 'ok: none');
  writeFileSync(`${home.paths.stateDb}-journal`, 'x'.repeat(512));
  assert.match(
    await home.says('state.journal'),
    /^warning: .*-journal has 512 bytes: a write was interrupted/,
  );
  assert.match(await home.says('state.database'), /^failure: .*must be rolled back/);
});

test('state.version: older, older than the history, newer, and of another program', async () => {
  using home = await populated();
  const id = NEWEST;
  sql(home, `DELETE FROM schema_migrations WHERE id = ${id}`);
  assert.match(
    await home.says('state.version'),
    new RegExp(`^info: \\d+; to come: ${id} .*→ the next start of the daemon migrates`),
  );
  for (const one of ['schema', 'rows']) assert.match(await home.says(`state.${one}`), /^info: not looked at/);
  sql(home, 'DROP TABLE schema_migrations');
  assert.match(await home.says('state.version'), /^info: 0; to come: 1 baseline/);
  sql(home, 'CREATE TABLE schema_migrations (id INTEGER PRIMARY KEY, name TEXT, applied_at TEXT)');
  sql(home, "INSERT INTO schema_migrations VALUES (999, 'future', '')");
  assert.match(
    await home.says('state.version'),
    new RegExp(
      `^failure: schema version 999, .*\\(999\\); banger .* knows schema version ${id} → use the banger`,
    ),
  );
  using other = new DoctorHome();
  other.makeDirectories();
  sql(other, 'CREATE TABLE notes (x)');
  assert.match(await other.says('state.version'), /^failure: it is a database of another program/);
});

test('state.schema', async () => {
  using home = await populated();
  sql(home, 'CREATE TABLE notes (x)');
  assert.match(await home.says('state.schema'), /^failure: .*a table that is not ours: "notes"/);
  sql(home, 'DROP TABLE notes', 'DROP INDEX vms_name');
  assert.match(await home.says('state.schema'), /^failure: the database lacks vms_name/);
  sql(home, 'CREATE INDEX vms_name ON vms(name)');
  assert.match(await home.says('state.schema'), /^failure: the index vms_name is not as schema version/);
});

test('state.integrity', async () => {
  using home = await populated();
  // Without a -wal, so that the page in the file is the one that counts.
  sql(home, 'PRAGMA journal_mode = DELETE');
  const answer = execFileSync('sqlite3', [
    home.paths.stateDb,
    "SELECT rootpage FROM sqlite_schema WHERE name = 'vms'",
  ]);
  const bytes = readFileSync(home.paths.stateDb);
  const page = (Number(answer.toString()) - 1) * 4096;
  bytes.fill(0xff, page + 8, page + 4096);
  writeFileSync(home.paths.stateDb, bytes);
  assert.match(
    await home.says('state.integrity'),
    /^failure: .*state\.db is damaged: .* → banger state list/,
  );
  assert.match(await home.says('state.foreign-keys'), /^failure: .*state\.db is damaged: /);
});

test('state.integrity: an index that does not know a row', async () => {
  using home = await populated();
  sql(
    home,
    'PRAGMA writable_schema = ON',
    "UPDATE sqlite_schema SET sql = replace(sql, '(image_id)', '(name)') WHERE name = 'vms_image_id'",
  );
  assert.match(
    await home.says('state.integrity'),
    /^failure: integrity_check: row 1 missing from index vms_image_id/,
  );
});

test('state.foreign-keys', async () => {
  using home = await populated();
  sql(home, 'PRAGMA foreign_keys = OFF; DELETE FROM images');
  assert.match(
    await home.says('state.foreign-keys'),
    /^failure: a row of vms names one of images that is not there/,
  );
});

test('state.rows', async () => {
  using home = await populated();
  sql(home, `UPDATE vms SET spec_json = '{"vcpus":0}'`);
  assert.match(await home.says('state.rows'), /^failure: the row of VM "dev" .* → banger vm delete dev/);
  sql(home, "UPDATE images SET kernel_path = 'relative'");
  assert.match(
    await home.says('state.rows'),
    /\nfailure: the row of image "debian-bookworm" is damaged: kernel_path/,
  );
});

test('state.free-pages', async () => {
  using home = await populated();
  sql(home, 'PRAGMA auto_vacuum', 'CREATE TABLE big AS SELECT zeroblob(20000000) AS x', 'DROP TABLE big');
  assert.match(await home.says('state.free-pages'), /^info: \d+ of \d+ pages are free \(19\.\d MiB\)/);
});

const VERIFIED = { subject: 'state.db', migrationVersion: 102, checks: [] } as unknown as StateVerified;

test('a daemon of our version is asked instead of reading files', async (context) => {
  using home = await populated();
  const handlers = { 'state.verify': async () => VERIFIED };
  await daemonOf(home, context, { handlers });
  // Whatever lies there, it is not looked at.
  writeFileSync(home.paths.stateDb, 'x'.repeat(5000));
  assert.match(await home.says('state.database'), /^ok: .*verified by the daemon$/);
  for (const id of ['version', 'schema', 'integrity', 'foreign-keys', 'free-pages']) {
    assert.match(await home.says(`state.${id}`), /^ok: /, id);
  }
  assert.equal(await home.says('state.version'), 'ok: 102');
});

test('a daemon that finds its database wrong is believed, and the copy tells more', async (context) => {
  using home = await populated();
  sql(home, 'CREATE TABLE notes (x)');
  const refusal = new BangerError('unsupported', 'a table that is not ours');
  await daemonOf(home, context, { handlers: { 'state.verify': () => Promise.reject(refusal) } });
  assert.match(await home.says('state.database'), /^failure: the daemon cannot verify its database: a table/);
  assert.match(await home.says('state.schema'), /^failure: .*"notes"/);
});

test('a daemon that cannot be asked for that, or is of another version, is no hindrance', async (context) => {
  using home = await populated();
  const refusal = new BangerError('unavailable', 'not served here');
  await daemonOf(home, context, { handlers: { 'state.verify': () => Promise.reject(refusal) } });
  assert.match(await home.says('state.database'), /^ok/);
  assert.equal(await home.says('state.integrity'), 'ok: integrity_check: ok');
  using other = await populated();
  await daemonOf(other, context, { version: 'older', handlers: { 'state.verify': async () => VERIFIED } });
  assert.equal(await other.says('state.integrity'), 'ok: integrity_check: ok');
});

test('state.restore-plan, and its repair', async () => {
  using home = await populated();
  const { stateDb, stateDir } = home.paths;
  assert.equal(await home.says('state.restore-plan'), 'ok: none');
  const temporary = '.state.db.tmp-1-1-0123456789ab';
  mkdirSync(join(stateDir, temporary), { mode: 0o700 });
  const inode = statSync(stateDb, { bigint: true }).ino;
  await writeRestorePlan(stateDb, {
    mode: 'copy',
    createdAt: '2026-01-01T00:00:00.000Z',
    newInode: inode + 1_000_000n,
    oldInode: inode,
    temporary,
    keptAs: 'state.db.pre-restore-20260101T000000Z',
    suffixes: [''],
  });
  assert.match(
    await home.says('state.restore-plan'),
    /^warning: a restore of 2026-01-01T.* did not come to its end .*\[fixable\]$/,
  );
  assert.match(await home.says('state.temporaries'), /^info: .*see state\.restore-plan$/);
  const plan = `${stateDb}.restore-plan`;
  const what = `finish or undo the restore in ${plan}`;
  assert.deepEqual(await home.fix(true, 'state.restore-plan'), [
    { id: 'state.restore-plan', what, done: null, error: null },
  ]);
  assert.ok(existsSync(plan));
  assert.deepEqual(await home.fix(false, 'state.restore-plan'), [
    { id: 'state.restore-plan', what, done: true, error: null },
  ]);
  assert.ok(!existsSync(plan) && !existsSync(join(stateDir, temporary)));
  assert.equal(await home.says('state.rows'), 'ok: 1 VM, 1 image');
});

test('state.restore-plan: one that is not ours', async () => {
  using home = await populated();
  writeFileSync(`${home.paths.stateDb}.restore-plan`, '{}');
  assert.match(await home.says('state.restore-plan'), /^failure: .*is not a restore plan of ours/);
  assert.deepEqual(await home.fix(false, 'state.restore-plan'), []);
});

test('state.temporaries', async () => {
  using home = await populated();
  const path = join(home.paths.stateDir, '.state.db.pre-102.tmp-1-1-0123456789ab');
  writeFileSync(path, 'half a copy');
  assert.match(await home.says('state.temporaries'), /^warning: dead processes left .*\[fixable\]$/);
  await home.fix(false, 'state.temporaries');
  assert.ok(!existsSync(path));
  assert.equal(await home.says('state.temporaries'), 'ok: none');
});

test('state.copies', async () => {
  using home = await populated();
  assert.equal(await home.says('state.copies'), 'ok: none');
  const path = `${home.paths.stateDb}.pre-102`;
  writeFileSync(path, 'x'.repeat(2048));
  assert.equal(await home.says('state.copies'), 'ok: 1, none older than 30 days');
  const then = new Date(Date.now() - 31 * 24 * 60 * 60_000);
  utimesSync(path, then, then);
  assert.match(
    await home.says('state.copies'),
    new RegExp(`^info: 1 copy .*\\(2 KiB\\) → if everything works: rm ${path}$`),
  );
  assert.deepEqual(await home.fix(false, 'state.copies'), []);
});

/** Takes one, as `banger state export` does. */
async function snapshotOf(home: DoctorHome, createdAt: string): Promise<string> {
  using view = await openReadOnlyView(home.paths.stateDb);
  assert.ok(view);
  const options = { migrations: MIGRATIONS, version: 'test', encoding: 'identity', createdAt } as const;
  const collection = new SnapshotCollection(home.paths.snapshotsDir, MIGRATIONS);
  return (await collection.put(exportState(view.database, options), ['latest'])).path;
}

test('state.snapshots', async () => {
  using home = await populated();
  assert.match(await home.says('state.snapshots'), /^info: there is none: .*→ banger state export$/);
  const now = Date.parse('2026-03-01T00:00:00Z');
  const host = { now: () => now };
  const path = await snapshotOf(home, '2026-02-27T00:00:00.000Z');
  assert.equal(await home.says('state.snapshots', { host }), 'ok: 1, the newest 2d old');
  const later = { now: () => now + 60 * 24 * 60 * 60_000 };
  assert.match(
    await home.says('state.snapshots', { host: later }),
    /^info: 1, the newest 62d old → banger state export/,
  );
  appendFileSync(path, 'x');
  assert.match(
    await home.says('state.snapshots'),
    /\nfailure: snapshot sha256:[0-9a-f]{12}: its payload has/,
  );
  rmSync(path);
  assert.match(
    await home.says('state.snapshots'),
    /\nfailure: snapshot sha256:[0-9a-f]{12}: its payload is missing/,
  );
  writeFileSync(join(home.paths.snapshotsDir, 'refs', 'mine'), 'nothing');
  assert.match(await home.says('state.snapshots'), /\nfailure: ref mine: /);
});

test('state.snapshot-digests', async () => {
  using home = await populated();
  assert.equal(await home.says('state.snapshot-digests'), 'ok: nothing to read');
  const path = await snapshotOf(home, '2026-02-27T00:00:00.000Z');
  assert.equal(await home.says('state.snapshot-digests'), 'ok: 1 is as it was made');
  const bytes = readFileSync(path);
  bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1;
  writeFileSync(path, bytes);
  // Its size is right, so that only reading it shows.
  assert.match(await home.says('state.snapshots', { host: { now: () => 0 } }), /^ok/);
  assert.match(
    await home.says('state.snapshot-digests'),
    /^failure: snapshot sha256:[0-9a-f]{12}: .*checksum/,
  );
});
