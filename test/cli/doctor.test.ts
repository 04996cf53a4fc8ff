/** `banger doctor`: what it prints, asks and exits with. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DoctorFinding, DoctorFix, DoctorReport } from '../../src/api/results/doctor.ts';
import { type Answers, fakeCli, type FakeOptions } from './fake-cli.ts';

function finding(id: string, changes: Partial<DoctorFinding> = {}): DoctorFinding {
  return {
    id,
    group: 'host',
    title: id.split('.')[1] ?? id,
    severity: 'ok',
    found: 'as it should be',
    fix: null,
    fixable: false,
    durationMs: 1,
    ...changes,
  };
}

const WELL: DoctorReport = { worst: 'ok', findings: [finding('host.kernel')] };
const ILL: DoctorReport = {
  worst: 'failure',
  findings: [
    finding('host.kernel', { fix: 'never shown' }),
    finding('host.disk', { severity: 'warning', found: '1 GiB free\u001b', fix: 'make room' }),
    finding('state.mode', {
      group: 'state',
      severity: 'failure',
      found: 'open to all',
      fix: 'chmod 600 /s',
      fixable: true,
    }),
  ],
};

function report(value: DoctorReport): FakeOptions {
  return { answers: { 'doctor.run': () => value } };
}

test('all is well: status 0, a row each, no daemon asked', async () => {
  const result = await fakeCli(['doctor'], report(WELL));
  assert.equal(result.status, 0);
  assert.equal(result.stdout, 'host\n  ok    kernel  as it should be\n\nall is well: 1 checked\n');
  assert.deepEqual(result.connects, []);
  assert.equal(result.offlines, 1);
});

test('problems: grouped, marked, with their fixes; a failure is status 1', async () => {
  const result = await fakeCli(['doctor'], report(ILL));
  assert.equal(result.status, 1);
  assert.equal(
    result.stdout,
    [
      'host',
      '  ok    kernel  as it should be',
      '  WARN  disk    1 GiB free?',
      '                fix: make room',
      '',
      'state',
      '  FAIL  mode    open to all',
      '                fix: chmod 600 /s',
      '',
      '1 failure, 1 warning: 3 checked',
      '"banger doctor --fix" can mend 1 of them',
      '',
    ].join('\n'),
  );
});

test('info: what to run, too; nothing where all is well', async () => {
  const findings = [
    finding('state.snapshots', { severity: 'info', found: 'there is none', fix: 'banger state export' }),
    finding('state.mode', { severity: 'ok', fix: 'not needed' }),
  ];
  const { stdout } = await fakeCli(['doctor'], report({ worst: 'info', findings }));
  assert.match(stdout, /there is none\n +fix: banger state export\n/);
  assert.doesNotMatch(stdout, /not needed/);
});

test('a warning is no failure; colour on a terminal only', async () => {
  const warned: DoctorReport = {
    worst: 'warning',
    findings: [finding('host.disk', { severity: 'warning' })],
  };
  const result = await fakeCli(['doctor'], { ...report(warned), stdoutIsTTY: true });
  assert.equal(result.status, 0);
  assert.match(result.stdout, /\u001b\[33mWARN\u001b\[39m/);
});

test('--json is the report', async () => {
  const result = await fakeCli(['doctor', '--json'], report(ILL));
  assert.equal(result.status, 1);
  assert.deepEqual(JSON.parse(result.stdout), ILL);
});

const PLANNED: DoctorFix = { id: 'state.mode', what: 'chmod 600 /s', done: null, error: null };

function fixer(result: Partial<DoctorFix>, plans: readonly (readonly DoctorFix[])[] = [[PLANNED]]) {
  let asked = 0;
  const answers: Answers = {
    'doctor.fix': ({ dryRun }) =>
      dryRun ? (plans[Math.min(asked++, plans.length - 1)] ?? []) : [{ ...PLANNED, ...result }],
  };
  return answers;
}

test('--fix says what, asks, does it', async () => {
  const questions: string[] = [];
  const result = await fakeCli(['doctor', '--fix'], {
    answers: fixer({ done: true }),
    stdinIsTTY: true,
    readLine: async (question) => {
      questions.push(question);
      return 'y';
    },
  });
  assert.equal(result.status, 0);
  assert.equal(result.stdout, '  chmod 600 /s\n  done    chmod 600 /s\n');
  assert.deepEqual(questions, ['Do this? [y/N] ']);
});

test('--fix: no, and nothing is done', async () => {
  const options = { answers: fixer({ done: true }), stdinIsTTY: true, readLine: async () => null };
  const result = await fakeCli(['doctor', '--fix'], options);
  assert.equal(result.status, 1);
  assert.equal(result.stderr, 'nothing done\n');
  assert.deepEqual(
    result.calls.map(({ params }) => params),
    [{ dryRun: true }],
  );
});

test('--fix: what came up meanwhile is asked about', async () => {
  const more = { ...PLANNED, what: 'rm /x' };
  const plans = [[PLANNED], [PLANNED, more], [PLANNED, more]];
  let asked = 0;
  const result = await fakeCli(['doctor', '--fix'], {
    answers: fixer({ done: true }, plans),
    stdinIsTTY: true,
    readLine: async () => {
      asked += 1;
      return 'yes';
    },
  });
  assert.equal(asked, 2);
  assert.match(result.stderr, /changed meanwhile/);
  assert.equal(result.status, 0);
});

test('--fix: a failure is status 1 and says why', async () => {
  const result = await fakeCli(['doctor', '--fix', '--yes'], {
    answers: fixer({ done: false, error: 'EPERM' }),
  });
  assert.equal(result.status, 1);
  assert.equal(result.stdout, '  FAILED  chmod 600 /s: EPERM\n');
});

test('--fix --dry-run only says; nothing to mend', async () => {
  const planned = await fakeCli(['doctor', '--fix', '-n'], { answers: fixer({}) });
  assert.deepEqual([planned.status, planned.stdout], [0, '  chmod 600 /s\n']);
  const none = await fakeCli(['doctor', '--fix', '-n'], { answers: fixer({}, [[]]) });
  assert.deepEqual(
    [none.status, none.stdout],
    [0, 'nothing that --fix mends; "banger doctor" says what else is wrong\n'],
  );
});

for (const [line, message] of [
  ['--fix', /without asking/],
  ['--fix --json', /without asking/],
  ['--fix --deep', /one of them/],
  ['--yes', /--yes goes with --fix/],
  ['--dry-run', /--dry-run goes with --fix/],
] as const) {
  test(`doctor ${line} is a wrong usage where nobody can be asked`, async () => {
    const { status, stderr, calls } = await fakeCli(['doctor', ...line.split(' ')]);
    assert.equal(status, 2);
    assert.match(stderr, message);
    assert.deepEqual(calls, []);
  });
}
