import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { fingerprint } from '../../../test/helpers/fingerprint.ts';
import { VERSION } from '../../core/buildinfo.ts';
import { BangerError } from '../../core/errors.ts';
import { checkMigrations } from '../check-migrations.ts';
import { openStore } from '../store.ts';
import { MIGRATIONS } from './list.ts';

let root = '';
let dir = '';
let path = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'go-'));
  dir = join(root, 'state');
  path = join(dir, 'state.db');
  mkdirSync(dir, { mode: 0o700 });
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

function sql(file: string, ...statements: readonly string[]): string {
  return execFileSync('sqlite3', [file, ...statements], { encoding: 'utf8' }).trim();
}

/** A database as the Go program leaves it when it is killed: its last commits are in the -wal only. */
function leave(...statements: readonly string[]): void {
  writeFileSync(path, '', { mode: 0o600 });
  const input = [
    'PRAGMA journal_mode = WAL;',
    'PRAGMA wal_autocheckpoint = 0;',
    ...statements,
    '.shell kill -9 $PPID',
  ];
  const shell = spawnSync('sqlite3', ['-bail', path], { input: input.join('\n'), encoding: 'utf8' });
  assert.equal(shell.signal, 'SIGKILL', shell.stderr);
  assert.ok(statSync(`${path}-wal`).size > 0);
}

const images = (extra: string): string =>
  `CREATE TABLE images (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, managed INTEGER NOT NULL DEFAULT 0,
  artifact_dir TEXT, rootfs_path TEXT NOT NULL, work_seed_path TEXT, kernel_path TEXT NOT NULL, initrd_path TEXT,
  modules_dir TEXT, build_size TEXT, seeded_ssh_public_key_fingerprint TEXT, ${extra}
  created_at TEXT NOT NULL, updated_at TEXT NOT NULL);`;
const vms = (extra = ''): string =>
  `CREATE TABLE vms (id TEXT PRIMARY KEY, name TEXT NOT NULL, image_id TEXT NOT NULL, guest_ip TEXT NOT NULL,
  state TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_touched_at TEXT NOT NULL,
  spec_json TEXT NOT NULL, runtime_json TEXT NOT NULL, stats_json TEXT NOT NULL DEFAULT '{}'${extra},
  FOREIGN KEY(image_id) REFERENCES images(id) ON DELETE RESTRICT);`;
const SESSIONS = `CREATE TABLE guest_sessions (id TEXT PRIMARY KEY, vm_id TEXT NOT NULL REFERENCES vms(id), note TEXT);
  CREATE INDEX guest_sessions_vm ON guest_sessions(vm_id);`;
const SESSION_ROWS = "INSERT INTO guest_sessions VALUES ('s1', 'v1', 'old'), ('s2', 'v2', 'older');";
const history = (...rows: readonly string[]): string =>
  `CREATE TABLE schema_migrations (id INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL);
  INSERT INTO schema_migrations VALUES ${rows.map((row) => `(${row}, '2026-04-26T10:00:00Z')`).join()};`;

const OF_IMAGES =
  'id name managed artifact_dir rootfs_path work_seed_path kernel_path initrd_path modules_dir build_size ' +
  'seeded_ssh_public_key_fingerprint created_at updated_at';
const OF_VMS =
  'id name image_id guest_ip state created_at updated_at last_touched_at spec_json runtime_json stats_json';

const insert = (table: string, columns: string, ...rows: readonly (readonly string[])[]): string =>
  `INSERT INTO ${table} (${columns.split(' ').join()}) VALUES ${rows.map((row) => `(${row.join()})`).join()};`;

const AT = "'2026-04-26T10:00:00Z', '2026-04-26T10:00:01+02:00'";
const IMAGE_ROWS = insert(
  'images',
  OF_IMAGES,
  ["'i1', 'it''s \"quoted\"', 1, '/a', '/a/r.ext4', NULL, '/k', '', '', '8G', NULL", AT],
  ["'i2', 'ünï-📦', 0, '', '/b/r''.ext4', '/seed', '/k2', '/initrd', '/m', '', 'SHA256:x/+=', '', ''"],
);
/** A NUL as an escape, and one as a byte. */
const NUL_JSON = `'{"a":"it''s \\"x\\u0000y\\""}'`;
const NUL_BYTE = "CAST(X'7b2261223a2278007927227d' AS TEXT)";
const VM_ROWS = insert(
  'vms',
  OF_VMS,
  ["'v1', 'dev', 'i1', '', 'running', '', '', ''", NUL_JSON, NUL_BYTE, "'{}'"],
  ["'v2', 'o''brien', 'i1', '', 'stopped'", AT, "'', '{', 'not json', ''"],
  [
    "'v3', '-- drop', 'i2', '172.16.0.2', 'unheard of'",
    AT,
    `'',${NUL_BYTE}, '{\n}', '{"n":9223372036854775807}'`,
  ],
);

interface Shape {
  readonly make: readonly string[];
  readonly firstPending: number;
  readonly level: number;
  /** Columns of ours the database has before. */
  readonly vmColumns: string;
}

const SHAPES: Readonly<Record<string, Shape>> = {
  'older than its own history, with packages_path, docker and guest_sessions': {
    make: [
      images('packages_path TEXT, docker INTEGER NOT NULL DEFAULT 1,'),
      vms(),
      SESSIONS,
      IMAGE_ROWS,
      VM_ROWS,
      SESSION_ROWS,
      "UPDATE images SET packages_path = '/p''kg';",
    ],
    firstPending: 1,
    level: 0,
    vmColumns: OF_VMS,
  },
  baseline: {
    make: [
      images('docker INTEGER NOT NULL DEFAULT 0,'),
      vms(),
      history("1, 'baseline'"),
      IMAGE_ROWS,
      VM_ROWS,
      'UPDATE images SET docker = 1;',
    ],
    firstPending: 2,
    level: 1,
    vmColumns: OF_VMS,
  },
  'the first id 2': {
    make: [
      images('packages_path TEXT, docker INTEGER NOT NULL DEFAULT 0,'),
      vms(),
      history("1, 'baseline'", "2, 'drop_dead_image_columns'"),
      'ALTER TABLE images DROP COLUMN packages_path;',
      IMAGE_ROWS,
      VM_ROWS,
    ],
    firstPending: 3,
    level: 2,
    vmColumns: OF_VMS,
  },
  'the second id 2': {
    make: [
      images('docker INTEGER NOT NULL DEFAULT 0,'),
      vms(),
      history("1, 'baseline'", "2, 'drop_images_docker'"),
      'ALTER TABLE images DROP COLUMN docker;',
      IMAGE_ROWS,
      VM_ROWS,
    ],
    firstPending: 3,
    level: 2,
    vmColumns: OF_VMS,
  },
  '3, with workspaces': {
    make: [
      images(''),
      vms(),
      history("1, 'baseline'", "2, 'drop_images_docker'", "3, 'vms_workspace_json'"),
      "ALTER TABLE vms ADD COLUMN workspace_json TEXT NOT NULL DEFAULT '{}';",
      IMAGE_ROWS,
      VM_ROWS,
      `UPDATE vms SET workspace_json = '{"guest_path":"/root/it''s"}' WHERE id = 'v2';`,
    ],
    firstPending: 100,
    level: 3,
    vmColumns: `${OF_VMS} workspace_json`,
  },
  'the first id 2 and then 3': {
    make: [
      images('docker INTEGER NOT NULL DEFAULT 0,'),
      vms(", workspace_json TEXT NOT NULL DEFAULT '{}'"),
      history("1, 'baseline'", "2, 'drop_dead_image_columns'", "3, 'vms_workspace_json'"),
      IMAGE_ROWS,
      VM_ROWS,
    ],
    firstPending: 100,
    level: 3,
    vmColumns: `${OF_VMS} workspace_json`,
  },
};

/** Type and bytes of every value: NULs, and the difference of 1 and '1', show. */
function valuesOf(file: string, table: string, columns?: string): string {
  const names =
    columns?.split(' ') ?? sql(file, `SELECT name FROM pragma_table_info('${table}')`).split('\n');
  return sql(
    file,
    `SELECT ${names.map((name) => `typeof(${name}), hex(${name})`).join()} FROM ${table} ORDER BY id`,
  );
}

const SCHEMA = 'SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name';

/** All a database says, in a copy: looking at the original would checkpoint it. */
function everythingOf(file: string): readonly string[] {
  const copies = mkdtempSync(join(root, 'copy-'));
  for (const suffix of ['', '-wal']) {
    if (statSync(file + suffix, { throwIfNoEntry: false }))
      cpSync(file + suffix, join(copies, `x.db${suffix}`));
  }
  const copy = join(copies, 'x.db');
  const tables = sql(copy, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").split('\n');
  return [sql(copy, SCHEMA), ...tables.map((table) => `${table}: ${valuesOf(copy, table)}`)];
}

for (const [name, shape] of Object.entries(SHAPES)) {
  describe(`a database of the Go program: ${name}`, () => {
    test('is told to be pending, and not touched by that', async () => {
      leave(...shape.make);
      const before = fingerprint(dir);
      const { exitStatus, line } = await checkMigrations(path);
      assert.equal(exitStatus, 1, line);
      assert.ok(line.startsWith(`${path}: schema version ${shape.level}, `), line);
      assert.match(line, new RegExp(`pending: ${shape.firstPending} .*102 one_schema_text$`));
      assert.deepEqual(fingerprint(dir), before);
    });

    test('keeps every value, gets our schema text, and what it was is kept beside it', () => {
      leave(...shape.make);
      const original = everythingOf(path);
      const copyOfOriginal = join(root, 'original.db');
      for (const suffix of ['', '-wal']) cpSync(path + suffix, copyOfOriginal + suffix);
      const [imageValues, vmValues] = [
        valuesOf(copyOfOriginal, 'images', OF_IMAGES),
        valuesOf(copyOfOriginal, 'vms', shape.vmColumns),
      ];
      assert.ok(imageValues.split('\n').length === 2);
      assert.equal(vmValues.split('\n').length, 3);

      const store = openStore(path);
      assert.deepEqual(store.listVms().length, 3);
      store.close();

      assert.equal(valuesOf(path, 'images', OF_IMAGES), imageValues);
      assert.equal(valuesOf(path, 'vms', shape.vmColumns), vmValues);
      const fresh = join(root, 'fresh/state.db');
      openStore(fresh).close();
      assert.equal(sql(path, SCHEMA), sql(fresh, SCHEMA));
      assert.equal(sql(path, 'PRAGMA integrity_check; PRAGMA foreign_key_check;'), 'ok');
      assert.equal(
        sql(path, 'SELECT id FROM schema_migrations ORDER BY id'),
        MIGRATIONS.map(({ id }) => id).join('\n'),
      );
      const kept = `${path}.pre-${shape.firstPending}`;
      assert.deepEqual(everythingOf(kept), original);
      assert.deepEqual(readdirSync(dir), ['state.db', `state.db.pre-${shape.firstPending}`]);
    });
  });
}

test('without a workspace column before, no VM has one after', () => {
  leave(...(SHAPES['baseline']?.make ?? []));
  openStore(path).close();
  assert.equal(sql(path, 'SELECT DISTINCT workspace_json FROM vms'), '{}');
});

test('a newer database is refused with both versions, its un-checkpointed rows untouched', async () => {
  leave(
    ...(SHAPES['baseline']?.make ?? []),
    "INSERT INTO schema_migrations VALUES (999, 'future', 'x'), (50, 'also unknown', 'x');",
  );
  const untouched = fingerprint(dir);
  assert.throws(
    () => openStore(path),
    (error) =>
      error instanceof BangerError &&
      error.code === 'version_mismatch' &&
      error.message.includes('schema version 999') &&
      error.message.includes('(50, 999)') &&
      error.message.includes(`banger ${VERSION} knows schema version ${MIGRATIONS.at(-1)?.id}`),
  );
  assert.deepEqual(fingerprint(dir), untouched);
  const { exitStatus, line } = await checkMigrations(path);
  assert.equal(exitStatus, 2);
  assert.match(line, /schema version 999.*50, 999.*knows schema version \d+$/);
  assert.deepEqual(fingerprint(dir), untouched);
});

test('a migration that fails leaves every row, and the next try goes on from there', () => {
  const { make, vmColumns } = SHAPES['baseline'] as Shape;
  leave(...make, "UPDATE vms SET name = 'dev' WHERE id = 'v2';");
  const original = everythingOf(path);
  assert.throws(
    () => openStore(path),
    (error) =>
      error instanceof BangerError &&
      error.code === 'io_error' &&
      error.message.includes('migration 101 (unique_names_and_addresses)') &&
      error.message.endsWith('applied before it and kept: 2, 3, 100') &&
      error.hint === `the database as it was before: ${path}.pre-2`,
  );
  assert.equal(sql(path, 'SELECT group_concat(id) FROM schema_migrations'), '1,2,3,100');
  const values = (file: string): string =>
    valuesOf(file, 'vms', vmColumns) + valuesOf(file, 'images', OF_IMAGES);
  assert.equal(values(path), values(`${path}.pre-2`));
  assert.deepEqual(everythingOf(`${path}.pre-2`), original);
  sql(path, "UPDATE vms SET name = 'dev-2' WHERE id = 'v2'");
  openStore(path).close();
  assert.equal(sql(path, 'SELECT max(id) FROM schema_migrations'), String(MIGRATIONS.at(-1)?.id));
  assert.deepEqual(readdirSync(dir), ['state.db', 'state.db.pre-101', 'state.db.pre-2']);
});
