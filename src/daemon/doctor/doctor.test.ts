import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DoctorHome } from '../../../test/helpers/doctor-home.ts';
import { DOCTOR_GROUPS } from '../../api/results/doctor.ts';
import { ok } from './check.ts';
import { CHECKS } from './doctor.ts';

const ids = CHECKS.map(({ id }) => id);

test('ids are stable names: of their group, each once, in the order of the groups', () => {
  assert.equal(new Set(ids).size, ids.length);
  for (const { id, group, title, timeoutMs } of CHECKS) {
    assert.match(id, new RegExp(`^${group}\\.[a-z]+(-[a-z]+)*$`));
    assert.ok(title.length > 0 && timeoutMs > 0 && Number.isSafeInteger(timeoutMs), id);
  }
  const groups = [...new Set(CHECKS.map(({ group }) => group))];
  assert.deepEqual(groups, DOCTOR_GROUPS);
  const ordered = [...CHECKS].sort((a, b) => groups.indexOf(a.group) - groups.indexOf(b.group));
  assert.deepEqual(
    ordered.map(({ id }) => id),
    ids,
  );
});

test('docs/doctor.md has a row for every check, in their order, and marks the deep ones', () => {
  const text = readFileSync(join(import.meta.dirname, '../../../docs/doctor.md'), 'utf8');
  const rows = text.split('\n').filter((line) => /^\| `[a-z]+\./.test(line));
  assert.deepEqual(
    rows.map((row) => /^\| `([^`]+)`/.exec(row)?.[1]),
    ids,
  );
  for (const [index, { id, title, deep = false }] of CHECKS.entries()) {
    assert.ok(rows[index]?.startsWith(`| \`${id}\`: ${title} |`), `${id}: the report calls it "${title}"`);
    assert.equal(rows[index]?.includes('*deep*'), deep, id);
  }
});

/** A check nobody has seen both right and wrong may be neither. */
test('every check appears in a test', () => {
  const tests = readdirSync(import.meta.dirname)
    .filter((name) => name.endsWith('.test.ts') && name !== 'doctor.test.ts')
    .map((name) => readFileSync(join(import.meta.dirname, name), 'utf8'))
    .join('\n');
  const missing = ids.filter((id) => !new RegExp(`['"]${id.replace('.', '\\.')}['"]`).test(tests));
  assert.deepEqual(missing, []);
});

test('deep checks run only when they are asked for', async () => {
  using home = new DoctorHome();
  const check = { group: 'host', title: 'x', timeoutMs: 1000, run: async () => ok('x') } as const;
  const checks = [
    { ...check, id: 'host.quick' },
    { ...check, id: 'host.slow', deep: true },
  ] as const;
  const idsOf = async (deep: boolean): Promise<readonly string[]> =>
    (await home.report({ deep, checks })).findings.map(({ id }) => id);
  assert.deepEqual(await idsOf(false), ['host.quick']);
  assert.deepEqual(await idsOf(true), ['host.quick', 'host.slow']);
});

test('a report has the worst of its findings, in the order of the checks, and tells its progress', async () => {
  using home = new DoctorHome();
  await home.populate();
  const report = await home.report();
  const seen = [...new Set(report.findings.map(({ id }) => id))];
  assert.deepEqual(
    seen,
    CHECKS.filter(({ deep }) => deep !== true).map(({ id }) => id),
  );
  const order = ['ok', 'info', 'warning', 'failure'];
  const worst = Math.max(...report.findings.map(({ severity }) => order.indexOf(severity)));
  assert.equal(report.worst, order[worst]);
  assert.equal(home.progress.length, seen.length);
  assert.deepEqual(home.progress[0]?.step, 'doctor');
  assert.ok(home.progress.every(({ done = 0, total = 0 }) => done < total));
});
