/** Regression tests of the defects an obvious restore has, under the names they were measured by: D1, D2, D8, D11. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { acquireInstanceLock } from '../../src/host/instance-lock.ts';
import type { BootstrapStep } from '../../src/state/bootstrap-steps.ts';
import { isFresh } from '../../src/state/fresh.ts';
import { openDatabase } from '../../src/store/open.ts';
import { faultEnvironment } from '../helpers/fault-injection/faults.ts';
import {
  dumpDigest,
  expectedListing,
  fingerprint,
  listingOf,
  makeStates,
  type OldState,
  resetTo,
  restoreInto,
  startAndLook,
  type States,
} from './restore-states.ts';

let root = '';
let dir = '';
let path = '';
let states: States;
before(() => {
  root = mkdtempSync(join(tmpdir(), 'defects-'));
  states = makeStates(join(root, 'states'));
});
after(() => rmSync(root, { recursive: true }));

const children: ChildProcess[] = [];
let cases = 0;
beforeEach(() => {
  cases += 1;
  dir = join(root, `case-${cases}`);
  path = join(dir, 'state.db');
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
});

function begin(old: OldState): void {
  resetTo(join(states.dir, old), dir);
}

function imageNames(): readonly string[] {
  const shell = spawnSync('sqlite3', ['-readonly', path, 'SELECT name FROM images ORDER BY name'], {
    encoding: 'utf8',
  });
  return shell.stdout.trim().split('\n');
}

/** A stock shell that has read the database and stays. */
async function idleShell(): Promise<ChildProcess> {
  const shell = spawn('sqlite3', [path], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(shell);
  shell.stdin.write('SELECT count(*) FROM images;\n');
  await once(shell.stdout, 'data');
  return shell;
}

/** Adds a row by a stock shell that comes and goes. */
function writeByShell(): void {
  const shell = spawnSync('sqlite3', [path, "INSERT INTO late VALUES ('late')"], { encoding: 'utf8' });
  if (shell.status === 0) return;
  const made = spawnSync('sqlite3', [path, "CREATE TABLE late (x); INSERT INTO late VALUES ('late')"]);
  assert.equal(made.status, 0, String(made.stderr));
}

/** All but the write-ahead index, which is not part of the state: any reader may rewrite it. */
function bytes(): Readonly<Record<string, string>> {
  const { 'state.db-shm': _index, ...all } = fingerprint(dir);
  return all;
}

test('D1: a restore over a database with a full log holds the rows of the snapshot and no other', async () => {
  begin('crashed');
  await restoreInto(dir, states.snapshot, true);
  assert.deepEqual(imageNames(), ['new']);
  assert.deepEqual(expectedListing('crashed', 'new', states), listingOf(dir));
  assert.equal(dumpDigest(path), states.snapshot.digest);
});

test('D1: a log without its database makes a target that is not fresh, and is never adopted', async () => {
  begin('orphan-wal');
  assert.equal(isFresh(path), false);
  await assert.rejects(restoreInto(dir, states.snapshot, false), {
    name: 'ErrNotFresh',
    code: 'not_fresh',
    message: /state\.db-wal without a state\.db/,
  });
  const { previous } = await restoreInto(dir, states.snapshot, true);
  assert.deepEqual(imageNames(), ['new']);
  assert.equal(dumpDigest(path), states.snapshot.digest);
  const kept = readFileSync(previous ?? '');
  assert.ok(kept.equals(readFileSync(join(states.dir, 'orphan-wal/state.db-wal'))));
});

/** A companion that is not among those that are there, and so not among those that are renamed aside. */
const APPEARING = { absent: '-wal', empty: '-wal', clean: '-wal', damaged: '-journal' } as const;

for (const step of ['write_plan', 'fold', 'keep_previous', 'recheck'] as const) {
  for (const [old, suffix] of Object.entries(APPEARING) as [keyof typeof APPEARING, string][]) {
    test(`D1: ${old}: a ${suffix} that appears while a restore is at ${step} ends it`, async () => {
      begin(old);
      const onStep = (now: BootstrapStep): void => {
        if (now === step) copyFileSync(join(states.dir, 'orphan-wal/state.db-wal'), path + suffix);
      };
      await assert.rejects(restoreInto(dir, states.snapshot, true, { onStep }), (error: { code?: string }) =>
        ['in_use', 'not_fresh'].includes(String(error.code)),
      );
      rmSync(path + suffix, { force: true });
      assert.equal((await startAndLook(dir, old, states)).state, 'old', listingOf(dir).join(' '));
    });
  }
}

test('D2: under a live daemon nothing is replaced, and it is named', async () => {
  begin('crashed');
  const lock = await acquireInstanceLock(join(dir, 'bangerd.lock'), { pid: 4242 });
  const database = openDatabase(path);
  const found = bytes();
  await assert.rejects(restoreInto(dir, states.snapshot, true), {
    code: 'in_use',
    message: /pid 4242/,
    hint: /banger daemon stop/,
  });
  assert.deepEqual(bytes(), found);
  database.close();
  lock.release();
});

test('D2: a stock shell that has the database open is named, and not one byte changes', async () => {
  begin('crashed');
  const shell = await idleShell();
  const found = bytes();
  await assert.rejects(restoreInto(dir, states.snapshot, true), {
    code: 'in_use',
    message: new RegExp(`process ${shell.pid} has .*state\\.db open`),
  });
  assert.deepEqual(bytes(), found);
});

test('D2: so is one that holds no lock, because the database is in rollback mode', async () => {
  begin('clean');
  spawnSync('sqlite3', [path, 'PRAGMA journal_mode = DELETE']);
  const found = bytes();
  const shell = await idleShell();
  await assert.rejects(restoreInto(dir, states.snapshot, true), {
    code: 'in_use',
    message: new RegExp(`process ${shell.pid} has`),
  });
  assert.deepEqual(bytes(), found);
});

test('D2: so is a program that has a damaged database open', async () => {
  begin('damaged');
  const descriptor = openSync(path, 'r');
  const sleeper = spawn('sleep', ['600'], { stdio: ['ignore', 'ignore', 'ignore', descriptor] });
  closeSync(descriptor);
  children.push(sleeper);
  await assert.rejects(restoreInto(dir, states.snapshot, true), {
    code: 'in_use',
    message: new RegExp(`process ${sleeper.pid} has`),
  });
  assert.deepEqual(fingerprint(dir), fingerprint(join(states.dir, 'damaged')));
});

/** What a restore made durable, renamed and removed, in order, with names that say the role. */
function durableSteps(old: OldState): readonly string[] {
  begin(old);
  const log = join(root, `${old}.log`);
  const child = spawnSync(
    process.execPath,
    [join(import.meta.dirname, 'restore-child.ts'), dir, states.dir, 'force', ''],
    {
      encoding: 'utf8',
      env: { ...process.env, ...faultEnvironment(root, dir, log) },
    },
  );
  assert.match(child.stdout, /^restored/, child.stderr);
  return readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) =>
      line
        .replaceAll(dir, 'DIR')
        .replaceAll(/\.state\.db\.tmp-[0-9a-f-]+/g, 'TEMPORARY')
        .replaceAll(/\.state\.db\.restore-plan\.tmp-[0-9a-f-]+/g, 'NEW-PLAN')
        .replaceAll(/\.pre-restore-\w+/g, '.pre-restore'),
    );
}

function assertOrder(steps: readonly string[], expected: readonly string[]): void {
  let from = 0;
  for (const step of expected) {
    const at = steps.indexOf(step, from);
    assert.ok(at >= 0, `no "${step}" after line ${from} of\n${steps.join('\n')}`);
    from = at + 1;
  }
}

test('D8: what the next step relies on is durable before it, names as well as bytes', () => {
  assertOrder(durableSteps('crashed'), [
    'fsync DIR/TEMPORARY/state.db',
    'fsync DIR/TEMPORARY',
    'fsync DIR/NEW-PLAN',
    'rename DIR/NEW-PLAN DIR/state.db.restore-plan',
    'fsync DIR',
    'fsync DIR/state.db',
    'unlink DIR/state.db-wal',
    'fsync DIR/state.db.pre-restore',
    'fsync DIR',
    'rename DIR/TEMPORARY/state.db DIR/state.db',
    'fsync DIR',
    'unlink DIR/state.db.restore-plan',
    'fsync DIR',
  ]);
  assertOrder(durableSteps('damaged'), [
    'rename DIR/NEW-PLAN DIR/state.db.restore-plan',
    'fsync DIR',
    'rename DIR/state.db DIR/state.db.pre-restore',
    'rename DIR/state.db-wal DIR/state.db.pre-restore-wal',
    'fsync DIR',
    'rename DIR/TEMPORARY/state.db DIR/state.db',
    'fsync DIR',
    'unlink DIR/state.db.restore-plan',
    'fsync DIR',
  ]);
});

test('D8: the restored database is one private file in rollback mode, without companions', async () => {
  begin('crashed');
  await restoreInto(dir, states.snapshot, true);
  const header = readFileSync(path).subarray(18, 20);
  assert.deepEqual([...header], [1, 1]);
  const others = readdirSync(dir).filter((name) => /-(wal|shm|journal)$|\.tmp-/.test(name));
  assert.deepEqual(
    others.filter((name) => !name.startsWith('bangerd.lock')),
    [],
  );
});

for (const step of ['build', 'seal', 'write_plan', 'fold', 'keep_previous', 'recheck'] as const) {
  test(`D11: a target that stops being fresh at ${step} is not replaced`, async () => {
    for (const old of ['absent', 'empty'] as const) {
      begin(old);
      const onStep = (now: BootstrapStep): void => {
        if (now === step) writeByShell();
      };
      await assert.rejects(restoreInto(dir, states.snapshot, false, { onStep }), { name: 'ErrNotFresh' });
      const late = spawnSync('sqlite3', [path, 'SELECT x FROM late'], { encoding: 'utf8' });
      assert.equal(late.stdout, 'late\n');
      assert.deepEqual(listingOf(dir), ['state.db']);
    }
  });

  test(`D11: a database that is written at ${step} is not replaced`, async () => {
    begin('crashed');
    const onStep = (now: BootstrapStep): void => {
      if (now === step) writeByShell();
    };
    await assert.rejects(restoreInto(dir, states.snapshot, true, { onStep }), { code: 'in_use' });
    const late = spawnSync('sqlite3', [path, 'SELECT x FROM late; SELECT count(*) FROM images'], {
      encoding: 'utf8',
    });
    assert.equal(late.stdout, 'late\n5\n');
    assert.deepEqual(
      listingOf(dir).filter((name) => !/^state\.db-(wal|shm)$/.test(name)),
      ['state.db'],
    );
  });
}

test('D11: what may not be looked at is not fresh', { skip: process.geteuid?.() !== 0 }, () => {
  begin('absent');
  assert.equal(isFresh(path), true);
  chmodSync(root, 0o711);
  process.seteuid?.(65_534);
  try {
    assert.equal(isFresh(path), false);
  } finally {
    process.seteuid?.(0);
    chmodSync(root, 0o700);
  }
});

test('D11: nor is a directory that is a file', () => {
  begin('absent');
  writeFileSync(join(dir, 'file'), '');
  assert.equal(isFresh(join(dir, 'file', basename(path))), false);
});
