/** The real program and its offline process on a real state: what they leave behind, when nothing, and when interrupted. */

import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { DoctorReport } from '../../src/api/results/doctor.ts';
import type {
  SnapshotView,
  StateDiff,
  StateExported,
  StateRestored,
  StateVerified,
} from '../../src/api/results/state.ts';
import { settled } from '../helpers/test-home.ts';
import { atMoments } from '../helpers/thorough.ts';
import { type Started, StateHome } from './state-home.ts';

const NOBODY = 65534;
const AS_ROOT = process.getuid?.() === 0 ? false : 'needs root to become another user';

for (const args of [
  ['doctor'],
  ['doctor', '--fix', '--yes'],
  ['config', 'show'],
  ['config', 'check'],
  ['config', 'schema'],
  ['config', 'path'],
  ['state', 'verify'],
  ['state', 'list'],
  ['state', 'rebuild', '--dry-run'],
]) {
  const line = args.join(' ');

  test(`${line}: makes no file and no process where there is nothing`, async () => {
    await using home = new StateHome();
    const { stderr } = await home.run(args);
    assert.doesNotMatch(stderr, /internal|Error/);
    assert.ok(!existsSync(home.dir));
    await settled(() => home.processes().length === 0);
    assert.deepEqual(home.processes(), []);
  });

  test(`${line}: changes nothing of what is there`, async () => {
    await using home = new StateHome();
    home.addVms('dev');
    await home.ok('state', 'export');
    const before = home.fingerprint();
    await home.run(args);
    assert.deepEqual(home.fingerprint(), before);
  });
}

test('without a state: said so, with what to run', async () => {
  await using home = new StateHome();
  for (const args of [['verify'], ['export']]) {
    const { status, stderr } = await home.run(['state', ...args]);
    assert.equal(status, 1);
    assert.match(stderr, /^banger: there is no state yet: .*\nbanger daemon start makes an empty one/);
  }
  const { stderr } = await home.run(['state', 'verify', 'latest']);
  assert.equal(stderr, 'banger: there is no snapshot yet\nbanger state export\n');
});

test('a state travels: export, verify, diff, restore elsewhere', async () => {
  await using home = new StateHome();
  home.addVms('dev', 'web');
  const file = join(home.base, 'out.sql');
  const exported = await home.json<StateExported>('state', 'export', '--output', file, '--ref', 'first');
  assert.deepEqual([exported.existed, exported.refs, exported.problem], [false, ['first', 'latest'], null]);
  assert.deepEqual(exported.tableCounts['vms'], 2);
  assert.equal((await home.json<StateExported>('state', 'export', '--encoding', 'zstd')).existed, true);
  for (const source of ['latest', exported.digest, exported.digest.slice(7, 17), file]) {
    const { digest, checks } = await home.json<StateVerified>('state', 'verify', source);
    assert.equal(digest, exported.digest, source);
    assert.ok(checks.length >= 5);
  }
  assert.equal((await home.json<StateVerified>('state', 'verify')).digest, exported.digest);

  home.addVms('api');
  const changed = await home.run(['state', 'diff', 'latest', '--json']);
  assert.equal(changed.status, 1);
  const { rows } = JSON.parse(changed.stdout) as StateDiff;
  assert.deepEqual(rows, [{ table: 'vms', row: 'api', change: 'added', columns: [] }]);
  assert.equal((await home.run(['state', 'diff', 'first', file])).status, 0);

  await using elsewhere = new StateHome();
  const restored = await elsewhere.json<StateRestored>('state', 'bootstrap', file);
  assert.deepEqual([restored.digest, restored.previous], [exported.digest, null]);
  assert.equal(restored.missing.length, 3, 'an image and two disks');
  assert.deepEqual(elsewhere.vmNames(), ['dev', 'web']);
});

test('restoring: refused without force, with the command that does it; the old state is kept', async () => {
  await using home = new StateHome();
  home.addVms('dev');
  await home.ok('state', 'export');
  home.addVms('web');
  const before = home.fingerprint();
  const { status, stderr } = await home.run(['state', 'bootstrap', 'latest']);
  assert.equal(status, 1);
  const command = /: banger (state bootstrap latest --force --allow-rollback \d+:\d+)\n/.exec(stderr)?.[1];
  assert.ok(command, stderr);
  const unlocked = (lines: readonly string[]) =>
    lines.filter((one) => !/^state(\/bangerd\.lock)? /.test(one));
  assert.deepEqual(unlocked(home.fingerprint()), unlocked(before));
  const { previous } = await home.json<StateRestored>(...command.split(' '));
  assert.deepEqual(home.vmNames(), ['dev']);
  assert.ok(previous !== null && existsSync(previous));
  const wrong = `sha256:${'0'.repeat(64)}`;
  const pinned = await home.run(['state', 'bootstrap', 'latest', '--force', '--digest', wrong, '--json']);
  assert.equal(pinned.status, 1);
  assert.equal((JSON.parse(pinned.stderr) as { error: { code: string } }).error.code, 'verify_failed');
});

test('list and prune', async () => {
  await using home = new StateHome();
  for (const name of ['a', 'b', 'c']) {
    home.addVms(name);
    await home.ok('state', 'export', ...(name === 'a' ? ['--ref', 'first'] : []));
  }
  const all = await home.json<SnapshotView[]>('state', 'list');
  assert.deepEqual(
    all.map(({ refs, tableCounts }) => [refs, tableCounts['vms']]),
    [
      [['latest'], 3],
      [[], 2],
      [['first'], 1],
    ],
  );
  const planned = await home.json<SnapshotView[]>('state', 'prune', '--keep', '1', '--dry-run');
  assert.equal((await home.json<SnapshotView[]>('state', 'list')).length, 3);
  const pruned = await home.json<SnapshotView[]>('state', 'prune', '--keep', '1');
  assert.deepEqual(pruned, planned);
  assert.deepEqual(
    pruned.map(({ tableCounts }) => tableCounts['vms']),
    [2],
  );
});

test('damage is found, in a snapshot and in the database', async () => {
  await using home = new StateHome();
  home.addVms('dev');
  const { path } = await home.json<StateExported>('state', 'export');
  writeFileSync(path, readFileSync(path, 'latin1').replace('dev', 'DEV'), 'latin1');
  const snapshot = await home.run(['state', 'verify', 'latest']);
  assert.equal(snapshot.status, 1);
  assert.match(snapshot.stderr, /^banger: encoded_checksum: /);
  const before = readFileSync(home.database);
  before.fill(0xff, 4096, 8192);
  writeFileSync(home.database, before);
  const database = await home.run(['state', 'verify']);
  assert.equal(database.status, 1);
  assert.match(database.stderr, /damaged|malformed/);
  assert.equal((await home.run(['doctor'])).status, 1);
});

test('twice at once: two exports make one snapshot', async () => {
  await using home = new StateHome();
  home.fill(1);
  const runs = await Promise.all([1, 2].map(() => home.run(['state', 'export', '--json'])));
  assert.deepEqual(
    runs.map(({ status }) => status),
    [0, 0],
    runs.map(({ stderr }) => stderr).join(''),
  );
  const [one, two] = runs.map(({ stdout }) => JSON.parse(stdout) as StateExported);
  assert.equal(one?.digest, two?.digest);
  assert.notEqual(one?.existed, two?.existed);
  assert.equal((await home.json<SnapshotView[]>('state', 'list')).length, 1);
});

test('twice at once: two restores, one of which is refused or waits its turn', async () => {
  await using home = new StateHome();
  home.fill(2);
  await home.ok('state', 'export');
  const runs = await Promise.all([1, 2].map(() => home.run(['state', 'bootstrap', 'latest', '--force'])));
  const refused = runs.filter(({ status }) => status !== 0);
  assert.ok(refused.length <= 1, runs.map(({ stderr }) => stderr).join(''));
  for (const { stderr } of refused) assert.match(stderr, /^banger: another .* works on /);
  assert.equal((await home.run(['state', 'diff', 'latest'])).status, 0);
  assertNoLitter(home);
});

test('beside a daemon: restoring is refused, the rest is asked of it', async () => {
  await using home = new StateHome();
  home.addVms('dev');
  await home.ok('state', 'export');
  await home.ok('daemon', 'start');
  try {
    for (const args of [['bootstrap', 'latest', '--force'], ['rebuild']]) {
      const { status, stderr } = await home.run(['state', ...args]);
      assert.equal(status, 1);
      assert.match(stderr, /^banger: another bangerd \(pid \d+\) works on .*\nbanger daemon stop/);
    }
    assert.equal((await home.run(['state', 'diff', 'latest'])).status, 0);
    assert.equal((await home.json<StateExported>('state', 'export')).existed, true);
    assert.equal((await home.json<StateVerified>('state', 'verify')).tableCounts['vms'], 1);
    assert.equal((await home.json<SnapshotView[]>('state', 'list')).length, 1);
    const doctor = await home.run(['doctor', '--json']);
    const { findings } = JSON.parse(doctor.stdout) as DoctorReport;
    assert.ok(
      findings.some(({ found }) => /\b1 VM/.test(found)),
      doctor.stdout,
    );
  } finally {
    await home.ok('daemon', 'stop');
  }
});

/** Half of a restore, of a snapshot or of a write. */
function assertNoLitter(home: StateHome): void {
  const litter = /\.tmp-|restore-plan|-wal$|-journal$/;
  const found = [home.stateDir, join(home.stateDir, 'snapshots'), join(home.stateDir, 'snapshots/sha256')]
    .flatMap((dir) => home.files(dir))
    .filter((name) => litter.test(name));
  assert.deepEqual(found, []);
}

/** What is waited for before striking. */
type Moment = (home: StateHome) => Promise<void>;

const after = (ms: number) => () => new Promise<void>((resolve) => setTimeout(resolve, ms));
/** The restore has begun to build. */
const temporary = (home: StateHome) => settled(() => home.files().some((name) => name.includes('.tmp-')));

/** Sends a signal at several moments of the same command; `check` sees what is left of it each time. */
async function atManyMoments(
  moments: readonly Moment[],
  begin: () => Promise<{ readonly home: StateHome; readonly started: Started }>,
  strike: (started: Started) => void,
  check: (home: StateHome, started: Started) => Promise<void>,
): Promise<void> {
  for (const [index, moment] of moments.entries()) {
    const { home, started } = await begin();
    await using _home = home;
    await moment(home);
    strike(started);
    await started.done;
    await settled(() => home.processes().length === 0);
    assert.deepEqual(home.processes(), [], `moment ${index}`);
    await check(home, started);
  }
}

function toGroup(signal: NodeJS.Signals): (started: Started) => void {
  return ({ child }) => {
    try {
      process.kill(-(child.pid ?? 0), signal);
    } catch {
      // It has ended.
    }
  };
}

// They take turns at the moments; with THOROUGH=1 both come at each.
for (const [name, strike, inExport, inRestore] of [
  ['Ctrl-C', toGroup('SIGINT'), atMoments([0, 350], [200, 500]), atMoments([250], [0])],
  ['kill -9 of the command', toGroup('SIGKILL'), atMoments([200, 500], [0, 350]), atMoments([0], [250])],
] as const) {
  test(`${name} during an export: a snapshot or none, and no process`, async () => {
    await atManyMoments(
      inExport.map(after),
      async () => {
        const home = new StateHome();
        home.fill(4);
        return { home, started: home.start(['state', 'export']) };
      },
      strike,
      async (home, { done }) => {
        assertNoLitter(home);
        const listed = await home.json<SnapshotView[]>('state', 'list');
        for (const { problem } of listed) assert.equal(problem, null);
        const { status, stderr } = await done;
        if (status === 0) assert.equal(listed.length, 1);
        else if (status !== null)
          assert.deepEqual([status, stderr.split('\n')[0]], [130, 'banger: cancelled']);
        await home.ok('state', 'export');
      },
    );
  });

  test(`${name} during a restore: the old state or the new one, and no process`, async () => {
    await atManyMoments(
      [...inRestore.map(after), temporary],
      async () => {
        const home = new StateHome();
        home.fill(4);
        await home.ok('state', 'export');
        home.addVms('later');
        const first = await home.run(['state', 'bootstrap', 'latest', '--force']);
        const rollback = /--allow-rollback \d+:\d+/.exec(first.stderr)?.[0].split(' ') ?? [];
        return { home, started: home.start(['state', 'bootstrap', 'latest', '--force', ...rollback]) };
      },
      strike,
      async (home, { done }) => {
        const { status, stderr } = await done;
        const isOld = home.vmNames().includes('later');
        if (status === 0) assert.ok(!isOld);
        else if (status !== null) {
          assert.equal(status, 130, stderr);
          assert.ok(isOld);
        }
        assertNoLitter(home);
      },
    );
  });
}

test('doctor with a broken configuration, and with none of its directories', async () => {
  await using home = new StateHome();
  mkdirSync(join(home.dir, 'config'), { recursive: true, mode: 0o700 });
  writeFileSync(join(home.dir, 'config/config.toml'), 'no_such_key = 1\n[', { mode: 0o600 });
  const { status, stdout } = await home.run(['doctor', '--json']);
  assert.equal(status, 1);
  const { findings } = JSON.parse(stdout) as DoctorReport;
  assert.ok(findings.some(({ group, severity }) => group === 'config' && severity === 'failure'));
  // Reading the state needs no configuration.
  home.addVms('dev');
  await home.ok('state', 'export');
});

test('doctor when the daemon cannot start', async () => {
  await using home = new StateHome();
  home.addVms('dev');
  writeFileSync(home.database, 'not a database, and long enough to be taken for one'.repeat(100));
  assert.equal((await home.run(['daemon', 'start'])).status, 1);
  const { status, stdout } = await home.run(['doctor']);
  assert.equal(status, 1);
  assert.match(stdout, /^state$/m);
  assert.match(stdout, /^ {2}FAIL /m);
});

test('doctor and verify as another user, in a directory nobody may write to', { skip: AS_ROOT }, async () => {
  await using home = new StateHome();
  home.addVms('dev');
  chmodSync(home.base, 0o755);
  chmodSync(home.dir, 0o755);
  chmodSync(home.database, 0o644);
  chmodSync(home.stateDir, 0o555);
  const before = home.fingerprint();
  const doctor = await home.run(['doctor', '--json'], { uid: NOBODY });
  assert.equal(doctor.stderr, '');
  assert.ok((JSON.parse(doctor.stdout) as DoctorReport).findings.length > 20);
  const verified = await home.run(['state', 'verify', '--json'], { uid: NOBODY });
  assert.equal(verified.status, 0, verified.stderr);
  assert.deepEqual(home.fingerprint(), before);
});

test('paths that cannot be: an answer, not a crash', async () => {
  await using home = new StateHome();
  const relative = await home.run(['doctor'], { env: { BANGER_HOME: 'relative' } });
  assert.equal(relative.status, 1);
  assert.match(relative.stderr, /^banger: BANGER_HOME must be an absolute path/);
  const long = await home.run(['state', 'list'], { env: { BANGER_HOME: `/${'x'.repeat(200)}` } });
  assert.equal(long.status, 1);
  assert.match(long.stderr, /the socket path .* is \d+ bytes long/);
});
