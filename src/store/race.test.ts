import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { someImage } from '../../test/helpers/store-records.ts';
import { openStore } from './store.ts';

const PROCESSES = 4;
const NAMES = 30;

interface Outcome {
  readonly won: readonly string[];
  readonly lost: Readonly<Record<string, number>>;
}

/** Every process tries to take every name, and one name of its own each time; all begin together. */
async function race(path: string, imageId: string): Promise<readonly Outcome[]> {
  const url = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
  const script = `
    const { openStore } = await import(${url('./store.ts')});
    const { someVm } = await import(${url('../../test/helpers/store-records.ts')});
    const store = openStore(${JSON.stringify(path)});
    const won = [], lost = {};
    process.stdout.write('ready');
    process.stdin.once('data', () => {
      for (let i = 0; i < ${NAMES}; i += 1) for (const name of ['vm-' + i, 'own-' + process.pid + '-' + i]) {
        try { won.push(store.insertVm(someVm(${JSON.stringify(imageId)}, { name }), '172.16.0').name); }
        catch (error) { lost[error.code] = (lost[error.code] ?? 0) + 1; }
      }
      store.close();
      process.stdout.write(JSON.stringify({ won, lost }), () => process.exit());
    });`;
  const children = Array.from({ length: PROCESSES }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  await Promise.all(children.map((child) => once(child.stdout, 'data')));
  const outcomes = children.map(async (child) => {
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await once(child, 'close');
    return JSON.parse(text) as Outcome;
  });
  for (const child of children) child.stdin.write('go');
  return await Promise.all(outcomes);
}

test('names and addresses fought over by several processes: each has one owner, and each loser is told', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'race-'));
  const path = join(dir, 'state.db');
  const image = someImage();
  using store = openStore(path);
  store.upsertImage(image);
  const outcomes = await race(path, image.id);
  const vms = store.listVms();
  const won = outcomes.flatMap((outcome) => outcome.won);
  assert.deepEqual(won.sort(), vms.map((vm) => vm.name).sort());
  assert.equal(won.filter((name) => name.startsWith('vm-')).length, NAMES);
  assert.equal(vms.length, NAMES + PROCESSES * NAMES);
  assert.equal(new Set(vms.map((vm) => vm.guestIp)).size, vms.length);
  const lost = outcomes.map((outcome) => outcome.lost);
  for (const each of lost)
    assert.deepEqual(
      Object.keys(each).filter((code) => code !== 'already_exists'),
      [],
    );
  assert.equal(
    lost.reduce((sum, each) => sum + (each['already_exists'] ?? 0), 0),
    NAMES * (PROCESSES - 1),
  );
  rmSync(dir, { recursive: true });
});
