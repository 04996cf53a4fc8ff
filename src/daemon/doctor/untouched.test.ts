/** The doctor changes nothing: not a byte, not a time, not a name below any of its directories, whatever state they are in. */

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { daemonOf, DoctorHome } from '../../../test/helpers/doctor-home.ts';
import type { DoctorReport } from '../../api/results/doctor.ts';
import { temporaryPath } from '../../host/files.ts';
import { vmRuntimeDir } from '../../host/paths.ts';
import { CHECKS, type DoctorDeps } from './doctor.ts';

/** Names, kinds, modes, owners, inodes, times and contents of everything below a directory, and of itself. */
function fingerprint(dir: string): readonly string[] {
  const lines: string[] = [];
  const visit = (path: string): void => {
    const stat = lstatSync(path, { bigint: true });
    const facts = [
      stat.ino,
      stat.mode,
      stat.uid,
      stat.gid,
      stat.nlink,
      stat.size,
      stat.mtimeNs,
      stat.ctimeNs,
    ];
    const content = stat.isFile()
      ? createHash('sha256').update(readFileSync(path)).digest('hex')
      : stat.isSymbolicLink()
        ? readlinkSync(path)
        : '';
    lines.push(`${path} ${facts.join(' ')} ${content}`);
    if (stat.isDirectory()) for (const name of readdirSync(path).sort()) visit(join(path, name));
  };
  visit(dir);
  return lines;
}

/** Started programs cost half a second each time, and the probe boots: once each, in tests of their own. */
const WITHOUT_PROGRAMS = CHECKS.filter(
  ({ id }) => !['host.programs', 'host.qemu', 'host.probe'].includes(id),
);

async function leavesAsIs(home: DoctorHome, deps: Partial<DoctorDeps> = {}): Promise<DoctorReport> {
  const before = fingerprint(home.dir);
  assert.ok(before.length > 0);
  const report = await home.report({ deep: true, checks: WITHOUT_PROGRAMS, ...deps });
  assert.deepEqual(fingerprint(home.dir), before);
  // And neither does telling what it would mend.
  await home.fix(true);
  assert.deepEqual(fingerprint(home.dir), before);
  assert.ok(!report.findings.some(({ found }) => found.startsWith('the check itself failed')), show(report));
  return report;
}

function show(report: DoctorReport): string {
  return report.findings
    .filter(({ severity }) => severity !== 'ok')
    .map(({ id, severity, found }) => `${severity} ${id}: ${found}`)
    .join('\n');
}

function severityOf(report: DoctorReport, id: string): string | undefined {
  return report.findings.find((finding) => finding.id === id)?.severity;
}

/** A process that has the database open, with commits that are not checkpointed, and does nothing more. */
async function writer(home: DoctorHome, context: TestContext): Promise<ChildProcess> {
  const script = `const { DatabaseSync } = require('node:sqlite'); const db = new DatabaseSync(process.argv[1]);
    db.exec("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; UPDATE vms SET stats_json = '{\\"cpuMs\\":1}'");
    console.log('written'); setInterval(() => db.isOpen, 1e6);`;
  const child = spawn(process.execPath, ['-e', script, home.paths.stateDb], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  context.after(() => child.kill('SIGKILL'));
  await once(child.stdout ?? child, 'data');
  return child;
}

test('a home that is not there: nothing is made, and nothing is wrong', async () => {
  using home = new DoctorHome();
  mkdirSync(home.guestBinDir);
  writeFileSync(join(home.guestBinDir, 'banger-agent'), '\x7fELF');
  const space = { bsize: 4096, bavail: 1e9, files: 0, ffree: 0 };
  const report = await leavesAsIs(home, { host: { statfs: async () => space, memoryMib: 8192 } });
  assert.ok(['ok', 'info'].includes(report.worst), show(report));
});

test('a fresh home with all checks and programs', async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  await leavesAsIs(home, { checks: CHECKS });
});

test('a clean database', async () => {
  using home = new DoctorHome();
  await home.populate();
  assert.deepEqual(
    readdirSync(home.paths.stateDir).filter((name) => name.startsWith('state.db')),
    ['state.db'],
  );
  const report = await leavesAsIs(home);
  assert.equal(severityOf(report, 'state.rows'), 'ok');
});

test('a live writer', async (context) => {
  using home = new DoctorHome();
  await home.populate();
  await writer(home, context);
  assert.ok(statSync(`${home.paths.stateDb}-wal`).size > 0);
  const report = await leavesAsIs(home);
  assert.equal(severityOf(report, 'state.rows'), 'ok');
});

test('after kill -9', async (context) => {
  using home = new DoctorHome();
  await home.populate();
  const child = await writer(home, context);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok(statSync(`${home.paths.stateDb}-wal`).size > 0);
  const report = await leavesAsIs(home);
  assert.equal(severityOf(report, 'state.rows'), 'ok');
});

test('a daemon that answers', async (context) => {
  using home = new DoctorHome();
  await home.populate();
  await daemonOf(home, context, { handlers: { 'vm.list': async () => [], 'image.list': async () => [] } });
  await leavesAsIs(home);
});

test('everything broken at once', async () => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  const { paths } = home;
  chmodSync(paths.stateDb, 0o666);
  chmodSync(paths.vmsDir, 0o777);
  writeFileSync(`${paths.stateDb}.restore-plan`, '{}');
  writeFileSync(`${paths.stateDb}-journal`, 'x'.repeat(512));
  writeFileSync(paths.probeFile, '{');
  writeFileSync(paths.logFile, `bangerd: no\n${'\0'.repeat(1000)}`);
  mkdirSync(temporaryPath(join(paths.scratchDir, 'x')).replace(/\.tmp-\d+-\d+-/, '.tmp-1-1-'));
  mkdirSync(vmRuntimeDir(paths, 'f'.repeat(32)));
  mkdirSync(join(paths.vmsDir, 'e'.repeat(32)));
  symlinkSync('nowhere', join(paths.vmsDir, vm.id, 'console.log'));
  execFileSync('mkfifo', [join(paths.vmsDir, vm.id, 'vm.json'), join(paths.imagesDir, 'fifo')]);
  const server = createServer(() => undefined).listen(paths.streamSocketPath);
  await once(server, 'listening');
  try {
    const report = await leavesAsIs(home);
    assert.equal(report.worst, 'failure');
  } finally {
    server.close();
  }
});

test('a database that is damaged, and one that is newer', async () => {
  using home = new DoctorHome();
  await home.populate();
  execFileSync('sqlite3', [home.paths.stateDb, "INSERT INTO schema_migrations VALUES (999, 'future', '')"]);
  assert.equal(severityOf(await leavesAsIs(home), 'state.version'), 'failure');
  writeFileSync(home.paths.stateDb, 'x'.repeat(10_000), { mode: 0o600 });
  assert.equal(severityOf(await leavesAsIs(home), 'state.database'), 'failure');
});

test('a writer that never rests: names and inodes stay', async (context) => {
  using home = new DoctorHome();
  await home.populate();
  const script = `const { DatabaseSync } = require('node:sqlite'); const db = new DatabaseSync(process.argv[1]);
    db.exec('PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 10'); console.log('begun');
    let n = 0; setInterval(() => db.exec('UPDATE vms SET stats_json = \\'{"cpuMs":' + n++ + '}\\''), 2);`;
  const child = spawn(process.execPath, ['-e', script, home.paths.stateDb], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  context.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const names = (): readonly string[] =>
    readdirSync(home.paths.stateDir).map(
      (name) => `${name} ${statSync(join(home.paths.stateDir, name)).ino}`,
    );
  const before = names();
  for (let round = 0; round < 5; round += 1) {
    const report = await home.report({ checks: WITHOUT_PROGRAMS });
    assert.equal(severityOf(report, 'state.rows'), 'ok', show(report));
    assert.equal(severityOf(report, 'state.integrity'), 'ok', show(report));
  }
  assert.deepEqual(names(), before);
});

/** The report, and the fixes, of a doctor that is another user. */
function asAnotherUser(home: DoctorHome): { report: DoctorReport; fixes: readonly unknown[] } {
  const script = `process.setgroups([]); process.setgid(12345); process.setuid(12345);
    const { createDoctor, CHECKS } = await import('${import.meta.dirname}/doctor.ts');
    const { resolvePaths } = await import('${import.meta.dirname}/../../host/paths.ts');
    const checks = CHECKS.filter(({ id }) => !['host.programs', 'host.qemu', 'host.probe'].includes(id));
    const env = { ...process.env, BANGER_HOME: process.argv[1] };
    const doctor = createDoctor({ paths: resolvePaths(env, 12345), env, version: 'x', guestBinDir: '/', checks });
    const operation = { signal: AbortSignal.timeout(60000), progress() {}, about() {} };
    const report = await doctor.run({ deep: true }, operation);
    const fixes = await doctor.fix({ dryRun: false }, operation);
    console.log(JSON.stringify({ report, fixes }));`;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script, home.dir], {
    cwd: '/',
    env: { PATH: process.env['PATH'], HOME: '/nonexistent', TMPDIR: '/tmp' },
    encoding: 'utf8',
  });
  return JSON.parse(output) as { report: DoctorReport; fixes: readonly unknown[] };
}

const needsRoot = { skip: process.geteuid?.() !== 0 && 'needs two users' };

test('a directory that cannot even be entered', needsRoot, async () => {
  using home = new DoctorHome();
  await home.populate();
  const before = fingerprint(home.dir);
  const { report, fixes } = asAnotherUser(home);
  assert.deepEqual(fingerprint(home.dir), before);
  assert.equal(report.worst, 'failure');
  assert.equal(severityOf(report, 'state.database'), 'failure');
  assert.doesNotMatch(show(report), /the check itself failed/);
  assert.deepEqual(fixes, []);
});

/** Another user's view: files can be read, nothing can be written. The modes cannot be right then. */
test('a 0555 directory of another user', {
  skip: process.geteuid?.() !== 0 && 'needs two users',
}, async () => {
  using home = new DoctorHome();
  await home.populate();
  const open = (path: string): void => {
    const stat = lstatSync(path);
    chmodSync(path, stat.isDirectory() ? 0o555 : 0o444);
    if (stat.isDirectory()) for (const name of readdirSync(path)) open(join(path, name));
  };
  open(home.dir);
  const before = fingerprint(home.dir);
  const { report, fixes } = asAnotherUser(home);
  assert.deepEqual(fingerprint(home.dir), before);
  assert.equal(severityOf(report, 'state.rows'), 'ok', show(report));
  assert.equal(severityOf(report, 'state.integrity'), 'ok');
  assert.equal(severityOf(report, 'security.directories'), 'failure');
  assert.deepEqual(fixes, []);
  // So that it can be removed again.
  for (const path of execFileSync('find', [home.dir, '-type', 'd'], { encoding: 'utf8' })
    .trim()
    .split('\n')) {
    chmodSync(path, 0o700);
  }
  rmSync(home.dir, { recursive: true });
});
