/** The doctor beside real VMs: it sees what is so, changes nothing, starts no daemon and harms no machine. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { DoctorFinding, DoctorFix, DoctorReport } from '../../src/api/results/doctor.ts';
import { isAlive, settled, TestHome } from '../helpers/test-home.ts';

interface Outcome {
  readonly status: number | null;
  readonly report: DoctorReport;
}

async function doctor(home: TestHome, ...flags: readonly string[]): Promise<Outcome> {
  const { status, stdout, stderr } = await home.run(['doctor', '--json', ...flags]);
  assert.ok(stdout.length > 0, stderr);
  const report = JSON.parse(stdout.toString()) as DoctorReport;
  const broken = report.findings.filter(({ found }) => found.startsWith('the check itself failed'));
  assert.deepEqual(broken, []);
  assert.equal(status, report.worst === 'failure' ? 1 : 0);
  return { status, report };
}

function of(report: DoctorReport, id: string): readonly DoctorFinding[] {
  return report.findings.filter((finding) => finding.id === id);
}

function saying(report: DoctorReport, id: string): string {
  return of(report, id)
    .map(({ severity, found }) => `${severity}: ${found}`)
    .join('\n');
}

function failuresOf(report: DoctorReport): readonly string[] {
  return report.findings
    .filter(({ severity }) => severity === 'failure')
    .map(({ id, found }) => `${id}: ${found}`);
}

/** Everything below the home, and below what its links lead to: names, inodes, modes, owners, sizes, times. */
function fingerprint(home: TestHome): readonly string[] {
  const lines: string[] = [];
  const visit = (path: string): void => {
    const stat = lstatSync(path, { bigint: true });
    lines.push([path, stat.ino, stat.mode, stat.uid, stat.size, stat.mtimeNs, stat.ctimeNs].join(' '));
    if (stat.isSymbolicLink()) visit(realpathSync(path));
    if (stat.isDirectory()) for (const name of readdirSync(path).sort()) visit(join(path, name));
  };
  visit(home.dir);
  return lines;
}

async function killDaemon(home: TestHome): Promise<void> {
  const pid = await home.daemonPid();
  process.kill(pid, 'SIGKILL');
  await settled(() => !isAlive(pid));
}

describe('doctor', () => {
  let home: TestHome;
  before(async () => {
    home = new TestHome();
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('before anything was started: nothing is wrong, and nothing is made', async () => {
    const untouched = fingerprint(home);
    const { status, report } = await doctor(home);
    assert.equal(status, 0, failuresOf(report).join('\n'));
    assert.match(saying(report, 'daemon.answers'), /^info: not running/);
    assert.equal(saying(report, 'state.database'), 'ok: no database yet');
    assert.match(saying(report, 'images.kernels'), /^ok: whole: /);
    assert.deepEqual(fingerprint(home), untouched);
    await assertNoProcess(home);
  });

  test('with --deep: a probe boot and every digest, and still nothing is made', async () => {
    const untouched = fingerprint(home);
    const { status, report } = await doctor(home, '--deep');
    assert.equal(status, 0, failuresOf(report).join('\n'));
    assert.match(saying(report, 'host.probe'), /: a guest said hello after \d+ ms with (kvm|tcg) /);
    assert.match(saying(report, 'images.digests'), /^ok: \d+ files are as they were made/);
    assert.deepEqual(fingerprint(home), untouched);
    await assertNoProcess(home);
  });

  test('interrupting a deep look ends its probe', async () => {
    const running = home.start(['doctor', '--deep']);
    // Asked once: a machine that KVM fails is gone again in a moment.
    let seen = false;
    await settled(() => {
      seen ||= processesWith('banger-doctor-').length > 0;
      return seen || running.child.exitCode !== null;
    });
    assert.ok(seen, running.stderr());
    running.child.kill('SIGINT');
    assert.equal((await running.done).status, 130);
    await settled(() => processesWith('banger-doctor-').length === 0);
    assert.deepEqual(processesWith('banger-doctor-'), []);
    assert.equal(existsSync(join(tmpdir(), `banger-doctor-${process.geteuid?.()}`)), false);
    await assertNoProcess(home);
  });

  test('a running VM and its daemon', async () => {
    await home.ok(['vm', 'run', '-d', '--name', 'dev']);
    const { report } = await doctor(home);
    assert.deepEqual(failuresOf(report), []);
    assert.equal(saying(report, 'vms.processes'), 'ok: 1 VM, 1 running');
    for (const id of ['vms.directories', 'vms.disks', 'vms.orphan-processes', 'vms.sockets', 'state.rows']) {
      assert.match(saying(report, id), /^ok: /, id);
    }
    assert.match(saying(report, 'daemon.answers'), /^ok: pid \d+/);
    assert.match(saying(report, 'daemon.lock'), /^ok: held by the daemon/);
    for (const id of ['state-files', 'vm-files', 'sockets']) {
      assert.match(saying(report, `security.${id}`), /^ok: [^\n]*$/);
    }
    assert.match(saying(report, 'host.accelerator'), /: (kvm|tcg) \(/);
  });

  test('after kill -9 of the daemon: no byte changes, no daemon is started, the VM goes on', async () => {
    const { pid } = await home.show('dev');
    await killDaemon(home);
    // The guest goes on, and writes to its disk when it likes.
    const others = () => fingerprint(home).filter((line) => !line.includes('/root.qcow2 '));
    const untouched = others();
    const { status, report } = await doctor(home);
    assert.deepEqual(others(), untouched);
    assert.equal(status, 0, failuresOf(report).join('\n'));
    assert.match(saying(report, 'daemon.answers'), /^info: not running/);
    assert.match(saying(report, 'daemon.socket'), /^warning: .*was left by a daemon that is gone/);
    assert.equal(saying(report, 'daemon.lock'), 'ok: free');
    assert.equal(saying(report, 'vms.processes'), 'ok: 1 VM, 1 running');
    assert.equal((await home.run(['daemon', 'status'])).status, 1);
    assert.ok(isAlive(pid));
  });

  test('--fix removes the stale sockets and nothing of the VM', async () => {
    const planned = JSON.parse(
      await home.ok(['doctor', '--fix', '--dry-run', '--json']),
    ) as readonly DoctorFix[];
    assert.deepEqual([...new Set(planned.map(({ id, done }) => `${id} ${done}`))], ['daemon.socket null']);
    const fixes = JSON.parse(await home.ok(['doctor', '--fix', '--yes', '--json'])) as readonly DoctorFix[];
    assert.deepEqual(
      fixes.map(({ id, what, done, error }) => ({ id, what, done, error })),
      planned.map(({ id, what }) => ({ id, what, done: true, error: null })),
    );
    assert.ok(!existsSync(join(home.dir, 'run', 'bangerd.sock')));
    const { report } = await doctor(home);
    assert.match(saying(report, 'daemon.socket'), /^ok/);
    const vm = await home.show('dev');
    assert.deepEqual([vm.state, isAlive(vm.pid)], ['running', true]);
    await assertAlive(home);
  });

  test('a VM that has lost its row is told by its directory and its process, and nothing of it is touched', async () => {
    const { pid, id } = await home.show('dev');
    const daemon = await home.daemonPid();
    await home.ok(['daemon', 'stop']);
    await settled(() => !isAlive(daemon));
    const database = join(home.dir, 'state', 'state.db');
    const row = execFileSync('sqlite3', [database, '.mode insert vms', 'SELECT * FROM vms'], {
      encoding: 'utf8',
    });
    execFileSync('sqlite3', [database, 'DELETE FROM vms']);
    const { status, report } = await doctor(home);
    assert.equal(status, 1);
    assert.match(
      saying(report, 'vms.directories'),
      new RegExp(`^failure: VM "dev" in .*${id} has lost its row`),
    );
    assert.match(
      saying(report, 'vms.orphan-processes'),
      new RegExp(`^warning: process ${pid} is that of a VM .*${id} that has lost its row`),
    );
    assert.equal(await home.ok(['doctor', '--fix', '--yes', '--json']), '[]\n');
    assert.ok(isAlive(pid) && existsSync(join(home.dir, 'state', 'vms', id, 'root.qcow2')));
    execFileSync('sqlite3', [database, row]);
    assert.deepEqual(failuresOf((await doctor(home)).report), []);
    await assertAlive(home);
  });

  test('a stopped VM, and one whose disk is gone', async () => {
    await home.ok(['vm', 'stop', 'dev']);
    assert.equal(saying((await doctor(home)).report, 'vms.processes'), 'ok: 1 VM, 0 running');
    const { vmDir } = await home.show('dev');
    execFileSync('mv', [join(vmDir, 'root.qcow2'), join(vmDir, 'away')]);
    assert.match(saying((await doctor(home)).report, 'vms.disks'), /^failure: VM "dev": its disk .* is gone/);
    execFileSync('mv', [join(vmDir, 'away'), join(vmDir, 'root.qcow2')]);
    assert.match(saying((await doctor(home)).report, 'vms.disks'), /^ok/);
  });
});

/** The process without a daemon ends when it notices that its client has gone: a moment later. */
async function assertNoProcess(home: TestHome): Promise<void> {
  await settled(() => home.processes().length === 0);
  assert.deepEqual(home.processes(), []);
}

/** The first session after a daemon was killed may be ended by late news of that: docs/agent-protocol.md, "Opening". */
async function assertAlive(home: TestHome): Promise<void> {
  await settled(async () => (await home.run(['vm', 'exec', 'dev', '--', 'true'])).status === 0);
  assert.equal(await home.guest('dev', 'echo', 'alive'), 'alive');
}

/** Command lines of processes that mention a text. */
function processesWith(text: string): readonly string[] {
  const output = execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' });
  return output.split('\n').filter((line) => line.includes(text));
}
