import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { SaveableMachine, writeFacts } from '../../../../test/helpers/saveable-machine.ts';
import { StateDirectory } from '../../../../test/helpers/state-directory.ts';
import { createRunner } from '../../../host/runner.ts';
import { type VmFiles, vmFiles } from '../../vm-files.ts';
import {
  dropSavedMemory,
  findSavedMemory,
  hasRun,
  hasSavedMemory,
  markAsRan,
  saveMemory,
} from './saved-memory.ts';

const VM = { name: 'dev', memoryMib: 1, diskSizeBytes: 4096 };
const runner = createRunner();
const never = new AbortController().signal;

let dir: StateDirectory;
let files: VmFiles;
let machine: SaveableMachine;
beforeEach(async () => {
  dir = new StateDirectory();
  files = vmFiles(dir.paths, '1'.repeat(32));
  mkdirSync(files.dir);
  machine = new SaveableMachine();
  await machine.pause();
  await writeFacts(files);
});
afterEach(() => dir[Symbol.dispose]());

async function save(signal = never): Promise<void> {
  machine.savedSincePause = false;
  await saveMemory(machine, VM, files, runner, signal);
}

test('what was saved is found, with what a restore needs to know', async () => {
  assert.equal(await hasSavedMemory(files), false);
  assert.equal(await findSavedMemory(files, 'dev'), undefined);
  await save();
  assert.equal(await hasSavedMemory(files), true);
  const found = (await findSavedMemory(files, 'dev')) ?? assert.fail('nothing');
  assert.deepEqual(found.frozen, {
    dir: files.savedDir,
    shape: { vmm: 'QEMU 7' },
    initramfsSha256: 'b'.repeat(64),
    state: { sizeBytes: 5, sha256: 'e'.repeat(64) },
    rootDiskBytes: 4096,
  });
  assert.equal(found.memory.path, join(files.savedDir, 'memory'));
  assert.equal(found.memory.sizeBytes, 1024 ** 2);
});

test('once the guest may have run, it is nobody’s', async () => {
  await save();
  await markAsRan(files);
  assert.deepEqual([await hasRun(files), await hasSavedMemory(files)], [true, false]);
  assert.equal(await findSavedMemory(files, 'dev'), undefined);
  // The next save is whole again.
  await save();
  assert.deepEqual([await hasRun(files), await hasSavedMemory(files)], [false, true]);
});

test('dropping it leaves nothing, and nothing to drop is fine', async () => {
  await save();
  await dropSavedMemory(files);
  await dropSavedMemory(files);
  assert.equal(existsSync(files.savedDir), false);
});

test('a save that fails, or is cancelled, leaves nothing', async () => {
  const before = readdirSync(files.dir);
  machine.failure = new Error('the disk is full');
  await assert.rejects(save(), /the disk is full/);
  machine.failure = undefined;
  const abort = new AbortController();
  machine.whileSaving = () => abort.abort();
  await assert.rejects(save(abort.signal), { code: 'cancelled' });
  assert.deepEqual(readdirSync(files.dir), before);
});

test('damage is no absence', async () => {
  await save();
  const manifest = join(files.savedDir, 'manifest.json');
  for (const content of ['', '{', '{}', 'x'.repeat(300_000)]) {
    writeFileSync(manifest, content);
    assert.equal(await hasSavedMemory(files), true);
    await assert.rejects(findSavedMemory(files, 'dev'), { name: 'BangerError' }, content.slice(0, 2));
  }
  await save();
  truncateSync(files.machineFile, 0);
  await assert.rejects(findSavedMemory(files, 'dev'));
});

test('what cannot be looked at is neither there nor gone', async () => {
  writeFileSync(files.savedDir, 'a file');
  await assert.rejects(hasSavedMemory(files), { code: 'io_error' });
  await assert.rejects(hasRun(files), { code: 'io_error' });
});
