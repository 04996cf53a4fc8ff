import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ArchiveConflicts } from '../guest/archive/transfer.ts';
import { temporaryDir } from '../../test/helpers/host-repo.ts';
import {
  begunAfter,
  lastShipped,
  noteSentPaths,
  readSentPaths,
  readShippedRecords,
  recordShipping,
  type ShippedFiles,
  type ShippedRecord,
} from './shipped-record.ts';

function record(commit: string, staged = '0', branch: string | null = 'main'): ShippedRecord {
  return {
    commit: commit.repeat(40),
    tree: 'f'.repeat(40),
    branch,
    staged: staged.repeat(64),
    headCommit: 'a'.repeat(40),
    changes: [],
    indexStamp: '',
    hidden: { assumedUnchanged: [], sparse: [] },
  };
}

function shippedFiles(dir: string): ShippedFiles {
  const [shippedFile, shippedIndex, sentFile] = ['json', 'index', 'sent'].map((end) =>
    join(dir, `shipped.${end}`),
  ) as [string, string, string];
  return { shippedFile, shippedIndex, sentFile };
}

test('of two shippings of the same files, the one that the row names is meant', () => {
  const [one, other, third] = [record('b', '1'), record('b', '2'), record('b', '2', 'topic')];
  const records = [third, other, one];
  for (const shipped of [one, other, third])
    assert.equal(lastShipped({ shipped, headCommit: one.headCommit }, records), shipped);
  assert.equal(lastShipped({ shipped: record('c'), headCommit: one.headCommit }, records), undefined);
});

test('a commit that was shipped as it is needs no record', () => {
  const { commit, tree, branch, staged } = record('a');
  const found = lastShipped({ shipped: { commit, tree, branch, staged }, headCommit: commit }, []);
  assert.deepEqual([found?.commit, found?.changes, found?.headCommit], [commit, [], commit]);
});

test('wherever a shipping is cut off, it is among the records, and no index stands beside those of another', async (t) => {
  const dir = await temporaryDir(t);
  const files = shippedFiles(dir);
  const newIndex = join(dir, 'new');
  const old = record('b');
  const next = record('c');
  const steps = ['send', 'row'] as const;
  for (const cut of [...steps, undefined]) {
    writeFileSync(files.shippedIndex, 'old');
    writeFileSync(newIndex, 'new');
    await noteSentPaths(files.sentFile, ['ahead']);
    const step = (name: string) => async (): Promise<void> => {
      assert.deepEqual((await readShippedRecords(files.shippedFile))[0], next, name);
      if (name === cut) throw new Error('cut off');
    };
    const done = recordShipping(files, next, [old], {
      send: step('send'),
      onShipped: step('row'),
      indexPath: newIndex,
    });
    if (cut === undefined) await done;
    else await assert.rejects(done, /cut off/);
    assert.deepEqual(await readShippedRecords(files.shippedFile), [next, old]);
    assert.equal(existsSync(files.shippedIndex), cut === undefined);
    assert.deepEqual(await readSentPaths(files.sentFile), cut === undefined ? [] : ['ahead']);
    assert.deepEqual(begunAfter(old, await readShippedRecords(files.shippedFile)), [next]);
  }
  assert.equal(readFileSync(files.shippedIndex, 'utf8'), 'new');
});

test('the last eight are kept, each once', async (t) => {
  const dir = await temporaryDir(t);
  const files = shippedFiles(dir);
  const steps = { send: undefined, onShipped: async () => undefined, indexPath: undefined };
  for (const number of '0123456789') {
    await recordShipping(files, record(number), await readShippedRecords(files.shippedFile), steps);
  }
  await recordShipping(files, record('5'), await readShippedRecords(files.shippedFile), steps);
  const kept = await readShippedRecords(files.shippedFile);
  assert.equal(kept.map(({ commit }) => commit[0]).join(''), '59876432');
});

test('what the guest refused is not among the records', async (t) => {
  const files = shippedFiles(await temporaryDir(t));
  const old = record('b');
  const steps = { onShipped: async () => undefined, indexPath: undefined };
  await recordShipping(files, old, [], { ...steps, send: undefined });
  const refused = recordShipping(files, record('c'), [old], {
    ...steps,
    send: () => Promise.reject(new ArchiveConflicts([])),
  });
  await assert.rejects(refused, { code: 'invalid_state' });
  assert.deepEqual(await readShippedRecords(files.shippedFile), [old]);
});
