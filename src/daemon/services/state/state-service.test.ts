import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import { addImage, addVm, databaseAt } from '../../../../test/helpers/state-fixture.ts';
import type { Progress } from '../../../api/contract.ts';
import { BangerError, type ErrorCode } from '../../../core/errors.ts';
import { type BangerPaths, resolvePaths } from '../../../host/paths.ts';
import { MIGRATIONS } from '../../../store/migrations/list.ts';
import { viewSource } from '../../../store/state-source.ts';
import type { OperationHandle } from '../../operations.ts';
import { RestoreService } from './restore-service.ts';
import { StateService } from './state-service.ts';

const NEWEST = MIGRATIONS.at(-1)?.id ?? 0;

let home = '';
let paths: BangerPaths;
let service: StateService;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'state-service-'));
  paths = resolvePaths({ BANGER_HOME: home }, 0);
  mkdirSync(paths.stateDir, { mode: 0o700 });
  service = serviceAt('2026-02-01T00:00:00.000Z');
});
afterEach(() => {
  rmSync(home, { recursive: true });
});

function serviceAt(at: string): StateService {
  const source = viewSource(paths.stateDb);
  return new StateService({
    paths,
    source,
    migrations: MIGRATIONS,
    version: '0.1.0',
    now: () => at,
    env: {},
  });
}

/** In the state's place, closed. */
function makeDatabase(work: (database: DatabaseSync) => void, level = NEWEST): void {
  rmSync(paths.stateDb, { force: true });
  writeFileSync(paths.stateDb, '', { mode: 0o600 });
  using database = databaseAt(MIGRATIONS, level, paths.stateDb);
  work(database);
}

function operation(
  onProgress: (progress: Progress) => void = () => undefined,
  signal?: AbortSignal,
): OperationHandle {
  return { signal: signal ?? new AbortController().signal, progress: onProgress, about: () => undefined };
}

const EXPORT = { encoding: 'identity' } as const;

function fails(code: ErrorCode, message: RegExp, hint: RegExp = /(?:)/) {
  return (error: unknown) => {
    assert.ok(error instanceof BangerError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.match(error.hint ?? '', hint);
    return true;
  };
}

test('the last exported one is latest, whatever was exported before', async () => {
  makeDatabase((database) => addImage(database, 'debian'));
  const one = await service.export(EXPORT, operation());
  makeDatabase((database) => addImage(database, 'fedora'));
  const two = await serviceAt('2026-03-01T00:00:00.000Z').export({ ...EXPORT, ref: 'two' }, operation());
  assert.deepEqual(two.refs, ['latest', 'two']);
  const listed = await service.list();
  assert.deepEqual(
    listed.map(({ digest }) => digest),
    [two.digest, one.digest],
  );
  assert.deepEqual(listed[1]?.refs, []);
});

test('an output that cannot be written leaves the collection as it was', async () => {
  makeDatabase((database) => addImage(database, 'debian'));
  const output = join(home, 'out.sql');
  writeFileSync(output, 'mine');
  await assert.rejects(
    service.export({ ...EXPORT, output }, operation()),
    fails('already_exists', /out\.sql exists and is something else/),
  );
  await assert.rejects(
    service.export({ ...EXPORT, ref: '../x', output: join(home, 'new.sql') }, operation()),
    {
      code: 'bad_request',
    },
  );
  assert.ok(!existsSync(join(home, 'new.sql')));
  assert.ok(!existsSync(paths.snapshotsDir));
});

test('names that banger gives by itself, and that prune does not keep, are not for users', async () => {
  makeDatabase((database) => addImage(database, 'debian'));
  for (const ref of ['auto-mine', 'latest']) {
    await assert.rejects(service.export({ ...EXPORT, ref }, operation()), fails('bad_request', /by itself/));
    const pull = { repository: 'registry.example.com/a/b', tag: 'x', ref };
    await assert.rejects(service.pull(pull, operation()), fails('bad_request', /by itself/));
  }
  assert.ok(!existsSync(paths.snapshotsDir));
});

test('cancelled while it reads: nothing is written', async () => {
  makeDatabase((database) => addImage(database, 'debian'));
  const abort = new AbortController();
  const handle = operation(() => abort.abort(), abort.signal);
  await assert.rejects(service.export(EXPORT, handle), { code: 'cancelled' });
  assert.ok(!existsSync(paths.snapshotsDir));
  await assert.rejects(service.diff({ from: 'latest' }, operation()), fails('not_found', /no snapshot yet/));
});

test('a database of an older version: read as far as that goes, or what to run', async () => {
  const level = MIGRATIONS.at(-2)?.id ?? 0;
  makeDatabase((database) => addImage(database, 'debian'), level);
  const { migrationVersion, checks } = await service.verify({}, operation());
  assert.equal(migrationVersion, level);
  assert.ok(checks.some((check) => check.includes(`bring it to version ${NEWEST}`)));
  // As another program left it.
  makeDatabase((database) => database.exec('ALTER TABLE images ADD COLUMN docker TEXT'), 3);
  for (const work of [() => service.verify({}, operation()), () => service.export(EXPORT, operation())]) {
    await assert.rejects(work, fails('unsupported', /images/, /banger daemon start/));
  }
  // Nor does one of this version become better by a daemon.
  makeDatabase((database) => database.exec('CREATE TABLE theirs (a)'));
  await assert.rejects(service.verify({}, operation()), (error: BangerError) => error.hint === undefined);
});

test('a newer database is refused naming both versions', async () => {
  makeDatabase((database) => database.exec("INSERT INTO schema_migrations VALUES (9999, 'later', '')"));
  await assert.rejects(
    service.verify({}, operation()),
    fails('version_mismatch', new RegExp(`9999.*${NEWEST}`)),
  );
});

test('rows that lead nowhere are damage', async () => {
  makeDatabase((database) => {
    database.exec('PRAGMA foreign_keys = OFF');
    addVm(database, 'lost', { image_id: 'nowhere' });
  });
  await assert.rejects(
    service.verify({}, operation()),
    fails('verify_failed', /a row of vms leads to no row of images/, /banger state bootstrap latest --force/),
  );
});

test('rows that cannot be read are damage too, of VMs and of images', async () => {
  makeDatabase((database) => {
    addImage(database, 'debian');
    addVm(database, 'odd', { id: 'ab'.repeat(16), spec_json: '[' });
    database.exec("UPDATE images SET rootfs_path = 'relative'");
  });
  await assert.rejects(
    service.verify({}, operation()),
    fails(
      'verify_failed',
      /the row of VM "odd".* is damaged.*the row of image "debian" is damaged/,
      /banger doctor/,
    ),
  );
});

test('a snapshot of an older version is restored on trial as far as this one', async () => {
  const level = MIGRATIONS.at(-2)?.id ?? 0;
  makeDatabase((database) => addImage(database, 'debian'), level);
  await service.export(EXPORT, operation());
  const { checks, subject } = await service.verify({ source: 'latest' }, operation());
  assert.equal(subject, 'latest');
  assert.ok(checks.includes(`the restored database can be migrated to version ${NEWEST}`));
});

test('a pull needs a digest or a tag', async () => {
  for (const params of [{}, { digest: `sha256:${'0'.repeat(64)}`, tag: 't' }]) {
    await assert.rejects(service.pull({ repository: '127.0.0.1:1/a', ...params }, operation()), {
      code: 'usage',
    });
  }
});

test('a restore says what this host lacks; steps are told', async () => {
  makeDatabase((database) => {
    addImage(database, 'debian');
    addVm(database, 'web');
    addVm(database, 'db');
  });
  const { digest } = await service.export(EXPORT, operation());
  mkdirSync(join(paths.vmsDir, 'db'), { recursive: true });
  const restore = new RestoreService({ paths, migrations: MIGRATIONS, version: '0.1.0' });
  const steps: string[] = [];
  const params = { source: 'latest', force: true, allowRollback: [] };
  const told = operation(({ step }) => steps.push(step));
  const restored = await restore.bootstrap({ ...params, digest: digest.slice(7) }, told);
  assert.equal(restored.digest, digest);
  assert.equal(restored.missing.length, 2);
  assert.match(restored.missing[0] ?? '', /^image "debian" has no files in .*: banger image build debian$/);
  assert.match(restored.missing[1] ?? '', /^VM "web" has no disk: .*: banger vm delete web$/);
  assert.ok(steps.includes('build') && steps.includes('rename'), steps.join());
  const other = `sha256:${'0'.repeat(64)}`;
  await assert.rejects(
    restore.bootstrap({ ...params, digest: other }, operation()),
    fails('verify_failed', /^digest: latest is sha256/),
  );
  await assert.rejects(restore.bootstrap({ ...params, digest: 'x' }, operation()), { code: 'bad_request' });
});

test('a restore over what cannot be read says so, and keeps it', async () => {
  makeDatabase((database) => addImage(database, 'debian'));
  await service.export(EXPORT, operation());
  writeFileSync(paths.stateDb, 'no database at all, but bytes of somebody'.repeat(20));
  chmodSync(paths.stateDb, 0o600);
  const told: Progress[] = [];
  const restore = new RestoreService({ paths, migrations: MIGRATIONS, version: '0.1.0' });
  const params = { source: 'latest', force: true, allowRollback: [] };
  const { previous } = await restore.bootstrap(
    params,
    operation((progress) => told.push(progress)),
  );
  assert.ok(previous !== null && existsSync(previous));
  assert.ok(told.some(({ text, announce }) => announce === true && text.includes('could not be read')));
});

test('without a database, or with an empty file: a new state; with VMs there, a lost one', async () => {
  const asks = [() => service.verify({}, operation()), () => service.export(EXPORT, operation())];
  for (const ask of asks) {
    rmSync(paths.stateDb, { force: true });
    await assert.rejects(ask(), fails('not_found', /no state yet/, /daemon start makes an empty one/));
    writeFileSync(paths.stateDb, '', { mode: 0o600 });
    await assert.rejects(ask(), fails('not_found', /missing or empty/));
  }
  const dir = join(paths.vmsDir, '1'.repeat(32));
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  writeFileSync(join(dir, 'vm.json'), '{}');
  for (const ask of asks) {
    await assert.rejects(ask(), fails('invalid_state', /but 1 VM lies in/, /banger state rebuild/));
  }
});
