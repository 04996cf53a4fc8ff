import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { isFresh } from './fresh.ts';
import { type RestorePlan, restorePlanPath, writeRestorePlan } from './restore-plan.ts';
import { settleRestore } from './settle.ts';

const KEPT = 'state.db.pre-restore-20260131T120000Z';
const TEMPORARY = '.state.db.tmp-12-345-0123456789ab';

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'settle-'));
  path = join(dir, 'state.db');
  mkdirSync(join(dir, TEMPORARY));
  writeFileSync(join(dir, TEMPORARY, 'state.db'), 'new');
});
afterEach(() => rmSync(dir, { recursive: true }));

function inodeOf(name: string): bigint {
  return statSync(join(dir, name), { bigint: true }).ino;
}

function content(): Readonly<Record<string, string>> {
  const names = readdirSync(dir).filter((name) => name !== TEMPORARY);
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(dir, name), 'utf8')]));
}

async function plan(change: Partial<RestorePlan>): Promise<void> {
  await writeRestorePlan(path, {
    mode: 'copy',
    createdAt: '2026-01-31T12:00:00.000Z',
    newInode: inodeOf(join(TEMPORARY, 'state.db')),
    oldInode: null,
    temporary: TEMPORARY,
    keptAs: KEPT,
    suffixes: [''],
    ...change,
  });
}

/** What was settled is settled: a second time does nothing. */
async function settleTwice(): Promise<string> {
  const settled = await settleRestore(path);
  const found = content();
  assert.equal(await settleRestore(path), 'none');
  assert.deepEqual(content(), found);
  assert.ok(!existsSync(join(dir, TEMPORARY)));
  return settled;
}

test('without a plan there is nothing to settle, and nothing is touched', async () => {
  writeFileSync(path, 'old');
  assert.equal(await settleRestore(path), 'none');
  assert.deepEqual(content(), { 'state.db': 'old' });
});

test('a plan makes a target not fresh', async () => {
  assert.equal(isFresh(path), true);
  await plan({ mode: 'nothing', keptAs: null, suffixes: [] });
  assert.equal(isFresh(path), false);
});

test('before the rename a copy is removed, whole or not', async () => {
  for (const copy of [undefined, '', 'ol', 'old']) {
    mkdirSync(join(dir, TEMPORARY), { recursive: true });
    writeFileSync(join(dir, TEMPORARY, 'state.db'), 'new');
    writeFileSync(path, 'old');
    await plan({ oldInode: inodeOf('state.db') });
    if (copy !== undefined) writeFileSync(join(dir, KEPT), copy);
    assert.equal(await settleTwice(), 'undone');
    assert.deepEqual(content(), { 'state.db': 'old' });
  }
});

test('after the rename only the plan is removed', async () => {
  writeFileSync(path, 'new');
  writeFileSync(join(dir, KEPT), 'old');
  await plan({ oldInode: 1n, newInode: inodeOf('state.db') });
  assert.equal(await settleTwice(), 'finished');
  assert.deepEqual(content(), { 'state.db': 'new', [KEPT]: 'old' });
});

test('files that were renamed aside come back, however many had been', async () => {
  const all = ['', '-wal', '-shm', '-journal'];
  for (let moved = 0; moved <= all.length; moved += 1) {
    mkdirSync(join(dir, TEMPORARY), { recursive: true });
    writeFileSync(join(dir, TEMPORARY, 'state.db'), 'new');
    writeFileSync(path, 'old');
    const oldInode = inodeOf('state.db');
    for (const suffix of all) writeFileSync(path + suffix, `old${suffix}`);
    for (const suffix of all.slice(0, moved)) {
      copyFileSync(path + suffix, join(dir, KEPT + suffix));
      rmSync(path + suffix);
    }
    await plan({ mode: 'aside', oldInode, suffixes: all });
    assert.equal(await settleTwice(), 'undone');
    const expected = all.map((suffix) => [`state.db${suffix}`, `old${suffix}`] as const);
    assert.deepEqual(content(), Object.fromEntries(expected));
  }
});

test('a database that is neither the old one nor the new one is left as it is, and so is all else', async () => {
  writeFileSync(path, 'another');
  writeFileSync(join(dir, KEPT), 'old');
  for (const change of [
    { oldInode: 1n },
    { mode: 'aside' as const, oldInode: 1n },
    { mode: 'aside' as const },
  ]) {
    await plan(change);
    const found = content();
    await assert.rejects(settleRestore(path), {
      code: 'invalid_state',
      message: /state\.db is neither the database .* may be in state\.db\.pre-restore-20260131T120000Z$/,
      hint: new RegExp(`remove ${restorePlanPath(path)}$`),
    });
    assert.deepEqual(content(), found);
  }
});

test('a file that appeared where one is to come back is not overwritten', async () => {
  writeFileSync(join(dir, KEPT), 'old');
  writeFileSync(join(dir, `${KEPT}-wal`), 'old log');
  writeFileSync(`${path}-wal`, 'another log');
  await plan({ mode: 'aside', oldInode: 1n, suffixes: ['', '-wal'] });
  const found = content();
  await assert.rejects(settleRestore(path), { code: 'invalid_state' });
  assert.deepEqual(content(), found);
});

test('where nothing was to be kept, what somebody made meanwhile stays', async () => {
  await plan({ mode: 'nothing', keptAs: null, suffixes: [] });
  writeFileSync(path, 'made meanwhile');
  assert.equal(await settleTwice(), 'undone');
  assert.deepEqual(content(), { 'state.db': 'made meanwhile' });
});

test('companions that SQLite takes for none go with the fold that began them', async () => {
  writeFileSync(path, 'old');
  writeFileSync(`${path}-wal`, '');
  writeFileSync(`${path}-journal`, '\0'.repeat(512));
  await plan({ oldInode: inodeOf('state.db') });
  assert.equal(await settleTwice(), 'undone');
  assert.deepEqual(content(), { 'state.db': 'old' });
});
