import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DoctorHome } from '../../../test/helpers/doctor-home.ts';
import { acquireInstanceLock } from '../../host/instance-lock.ts';
import { createRunner } from '../../host/runner.ts';
import { type Check, ok, type Repair, warning } from './check.ts';
import type { DoctorContext, DoctorSetting } from './context.ts';
import { fixAll } from './fix.ts';
import { thisHost } from './host-facts.ts';

function settingOf(home: DoctorHome): DoctorSetting {
  const { paths, guestBinDir } = home;
  return { paths, env: {}, version: 'x', guestBinDir, runner: createRunner(), host: thisHost() };
}

/** A check that is wrong as long as it says so. */
function broken(name: string, isWrong: () => boolean, repair: Partial<Repair> = {}): Check<DoctorContext> {
  const whole: Repair = { what: `mend ${name}`, needsLock: false, apply: async () => undefined, ...repair };
  return {
    id: `state.${name}`,
    group: 'state',
    title: name,
    timeoutMs: 1000,
    run: async () => (isWrong() ? warning('wrong', { repair: whole }) : ok('right')),
  };
}

async function fixed(home: DoctorHome, checks: readonly Check<DoctorContext>[], dryRun = false) {
  const signal = AbortSignal.timeout(10_000);
  return await fixAll(checks, settingOf(home), { dryRun, signal, progress: () => undefined });
}

test('what was mended is looked at again', async () => {
  using home = new DoctorHome();
  let wrong = true;
  const mends = broken('mends', () => wrong, {
    apply: async () => {
      wrong = false;
    },
  });
  const idle = broken('idle', () => true);
  const throwing = broken('throwing', () => true, { apply: () => Promise.reject(new Error('no')) });
  assert.deepEqual(await fixed(home, [mends, idle, throwing], true), [
    { id: 'state.mends', what: 'mend mends', done: null, error: null },
    { id: 'state.idle', what: 'mend idle', done: null, error: null },
    { id: 'state.throwing', what: 'mend throwing', done: null, error: null },
  ]);
  assert.ok(wrong);
  assert.deepEqual(await fixed(home, [mends, idle, throwing]), [
    { id: 'state.mends', what: 'mend mends', done: true, error: null },
    { id: 'state.idle', what: 'mend idle', done: false, error: 'it was done, and is still so' },
    { id: 'state.throwing', what: 'mend throwing', done: false, error: 'no' },
  ]);
});

test('what needs the lock is done with it, after the rest', async () => {
  using home = new DoctorHome();
  const { lockFile } = home.makeDirectories().paths;
  const order: string[] = [];
  const step = (name: string, needsLock: boolean): Check<DoctorContext> =>
    broken(name, () => !order.includes(name), {
      needsLock,
      apply: async () => {
        order.push(name);
        const taken = acquireInstanceLock(lockFile, { pid: process.pid });
        if (needsLock) await assert.rejects(taken, { code: 'in_use' });
        else (await taken).release();
      },
    });
  const fixes = await fixed(home, [step('locked', true), step('free', false)]);
  assert.deepEqual(order, ['free', 'locked']);
  assert.deepEqual(
    fixes.map(({ id, done, error }) => [id, done, error]),
    [
      ['state.free', true, null],
      ['state.locked', true, null],
    ],
  );
  (await acquireInstanceLock(lockFile, { pid: process.pid })).release();
});

test('while a daemon has the lock, only what needs none is done', async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  using _daemon = await acquireInstanceLock(home.paths.lockFile, { pid: process.pid });
  let applied = false;
  const locked = broken('locked', () => true, {
    needsLock: true,
    apply: async () => {
      applied = true;
    },
  });
  const [fix] = await fixed(home, [locked]);
  assert.equal(fix?.done, false);
  assert.match(fix?.error ?? '', /another bangerd .* works on/);
  assert.ok(!applied);
});

test('what is no more so once the lock is held is not done', async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  let looks = 0;
  const passing = broken(
    'passing',
    () => {
      looks += 1;
      return looks === 1;
    },
    { needsLock: true, apply: () => Promise.reject(new Error('it was done')) },
  );
  assert.deepEqual(await fixed(home, [passing]), [
    { id: 'state.passing', what: 'mend passing', done: true, error: null },
  ]);
});

test('without anything to mend no lock is taken and nothing is made', async () => {
  using home = new DoctorHome();
  assert.deepEqual(await home.fix(false), []);
  assert.ok(!existsSync(home.paths.stateDir));
});

test('a home with several things wrong is mended, and only what is safe is', async () => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  const { paths } = home;
  chmodSync(paths.stateDb, 0o666);
  chmodSync(paths.stateDir, 0o755);
  writeFileSync(join(paths.stateDir, '.state.db.tmp-1-1-0123456789ab'), '');
  const socketDir = join(paths.vmRuntimesDir, 'f'.repeat(12));
  mkdirSync(socketDir, { mode: 0o700 });
  const lost = join(paths.vmsDir, 'e'.repeat(32));
  mkdirSync(lost, { mode: 0o700 });
  const fixes = await home.fix(false);
  assert.deepEqual(
    fixes.map(({ id, done }) => [id, done]),
    [
      ['state.temporaries', true],
      ['security.directories', true],
      ['security.state-files', true],
      ['vms.sockets', true],
    ],
  );
  assert.equal(statSync(paths.stateDb).mode & 0o777, 0o600);
  assert.ok(!existsSync(socketDir));
  assert.ok(existsSync(lost) && existsSync(join(paths.vmsDir, vm.id, 'root.qcow2')));
  assert.deepEqual(await home.fix(false), []);
});

test('cancelling ends it', async () => {
  using home = new DoctorHome();
  const signal = AbortSignal.abort();
  const options = { dryRun: false, signal, progress: () => undefined };
  await assert.rejects(fixAll([broken('any', () => true)], settingOf(home), options), { code: 'cancelled' });
});
