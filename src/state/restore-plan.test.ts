import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { type CanonicalValue, canonicalJson } from './canonical-json.ts';
import { digestOf } from '../oci/digest.ts';
import {
  keptFiles,
  readRestorePlan,
  removeRestorePlan,
  type RestorePlan,
  restorePlanPath,
  writeRestorePlan,
} from './restore-plan.ts';
import { settleRestore } from './settle.ts';

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'plan-'));
  path = join(dir, 'state.db');
});
afterEach(() => rmSync(dir, { recursive: true }));

const PLAN: RestorePlan = {
  mode: 'aside',
  createdAt: '2026-01-31T12:00:00.000Z',
  newInode: 18_446_744_073_709_551_615n,
  oldInode: null,
  temporary: '.state.db.tmp-12-345-0123456789ab',
  keptAs: 'state.db.pre-restore-20260131T120000Z',
  suffixes: ['-wal', '-journal'],
};

test('a plan comes back as it was written, and is private', async () => {
  await writeRestorePlan(path, PLAN);
  assert.deepEqual(await readRestorePlan(path), PLAN);
  assert.deepEqual(readdirSync(dir), ['state.db.restore-plan']);
  assert.deepEqual(keptFiles(path, PLAN), [
    { from: `${path}-wal`, to: join(dir, 'state.db.pre-restore-20260131T120000Z-wal') },
    { from: `${path}-journal`, to: join(dir, 'state.db.pre-restore-20260131T120000Z-journal') },
  ]);
  await removeRestorePlan(path);
  assert.equal(await readRestorePlan(path), undefined);
});

/** A plan file with some fields changed and a checksum that fits. */
function forged(change: Record<string, CanonicalValue>): string {
  const fields = {
    created_at: PLAN.createdAt,
    kept_as: PLAN.keptAs,
    mode: PLAN.mode,
    new_inode: '1',
    old_inode: null,
    plan_version: 1,
    suffixes: PLAN.suffixes,
    temporary: PLAN.temporary,
    ...change,
  };
  return canonicalJson({ ...fields, plan_checksum: digestOf(canonicalJson(fields)) });
}

async function assertRefused(content: string | Uint8Array, what: string): Promise<void> {
  writeFileSync(restorePlanPath(path), content);
  for (const use of [readRestorePlan, settleRestore]) {
    await assert.rejects(
      use(path),
      { code: 'invalid_state', message: /state\.db\.restore-plan is not a restore plan of ours: / },
      what,
    );
  }
  assert.ok(readFileSync(restorePlanPath(path)).equals(Buffer.from(content)), what);
}

test('a plan that is torn anywhere, or has one byte changed, is refused', async () => {
  await writeRestorePlan(path, PLAN);
  const good = readFileSync(restorePlanPath(path));
  for (let length = 0; length < good.length; length += 1) {
    await assertRefused(good.subarray(0, length), `the first ${length} bytes`);
  }
  for (let at = 0; at < good.length; at += 1) {
    for (const flip of [1, 0x20, 0x80]) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ flip;
      await assertRefused(bad, `byte ${at} changed by ${flip}`);
    }
  }
});

test('names that a restore does not make are refused, though the checksum fits', async () => {
  writeFileSync(restorePlanPath(path), forged({}));
  assert.equal((await readRestorePlan(path))?.newInode, 1n);
  const bad: readonly Record<string, CanonicalValue>[] = [
    { temporary: '.' },
    { temporary: '..' },
    { temporary: '' },
    { temporary: '.state.db.tmp-1-2-0123456789ab/../../x' },
    { temporary: '/etc' },
    { temporary: '.other.tmp-1-2-0123456789ab' },
    { temporary: '.state.db.tmp-1-2-0123456789ab\n' },
    { kept_as: '../state.db.pre-restore-20260131T120000Z' },
    { kept_as: 'state.db.pre-restore-' },
    { kept_as: 'state.db.pre-restore-20260131T120000Z/x' },
    { kept_as: 'state.db' },
    { kept_as: '' },
    { kept_as: null },
    { suffixes: [] },
    { suffixes: ['-wal', '-wal'] },
    { suffixes: ['/../x'] },
    { mode: 'copy' },
    { mode: 'copy', suffixes: [''] },
    { mode: 'copy', suffixes: ['', '-wal'], old_inode: '2' },
    { mode: 'nothing' },
    { mode: 'nothing', suffixes: [] },
    { mode: 'move' },
    { plan_version: 2 },
    { new_inode: '-1' },
    { new_inode: 1 },
    { old_inode: '1e3' },
    { created_at: 'now' },
    { extra: 1 },
  ];
  for (const change of bad) await assertRefused(forged(change), JSON.stringify(change));
});

test('what is no plan at all is refused, whatever its size', async () => {
  const texts = ['null', '[]', '{}', '"plan"', ` ${forged({})}`, `${forged({})}\n`, `\uFEFF${forged({})}`];
  for (const text of [...texts, 'x'.repeat(10_000), '['.repeat(4000)])
    await assertRefused(text, text.slice(0, 40));
});
