import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { FrozenState, MachineSpec } from '../driver.ts';
import type { QmpClient } from './qmp.ts';
import { assertSameShape, checkMemoryFile, goOn, openVerified } from './restore.ts';
import { MAX_STATE_BYTES } from './state-writer.ts';

const dir = await mkdtemp(join(tmpdir(), 'restore-'));
after(() => rm(dir, { recursive: true }));
const never = new AbortController().signal;

async function stateOf(content: string): Promise<FrozenState> {
  const path = join(dir, 'state');
  await writeFile(path, content);
  return { path, sizeBytes: content.length, sha256: createHash('sha256').update(content).digest('hex') };
}

test('another shape is refused with everything that differs', () => {
  assertSameShape({ a: '1' }, { a: '1' });
  assert.throws(() => assertSameShape({ a: '1', b: '1', c: '1' }, { a: '2', b: '2', c: '1' }), {
    code: 'unsupported',
    message: 'the frozen machine was another one: a: 2, not 1; b: 2, not 1',
  });
});

test('the memory has exactly the machine’s size', async () => {
  const path = join(dir, 'memory');
  await writeFile(path, '');
  for (const [bytes, fits] of [
    [2 ** 20, true],
    [2 ** 20 - 1, false],
    [2 ** 20 + 4096, false],
  ] as const) {
    await truncate(path, bytes);
    const check = checkMemoryFile(path, 1);
    if (fits) await check;
    else await assert.rejects(check, { code: 'verify_failed' }, String(bytes));
  }
  await assert.rejects(checkMemoryFile(join(dir, 'missing'), 1), { code: 'verify_failed' });
});

test('a state is opened at its beginning, and only with its own bytes', async () => {
  const good = await stateOf('device state');
  await using file = await openVerified(good);
  assert.equal((await file.readFile('utf8')).slice(0, 6), 'device', 'from the beginning');
  const wrong: readonly Partial<FrozenState>[] = [
    { sizeBytes: 11 },
    { sha256: '0'.repeat(64) },
    { path: dir },
    { path: join(dir, 'missing') },
  ];
  for (const change of wrong) {
    await assert.rejects(
      openVerified({ ...good, ...change }),
      { code: 'verify_failed' },
      JSON.stringify(change),
    );
  }
  await truncate(good.path, MAX_STATE_BYTES + 1);
  await assert.rejects(openVerified({ ...good, sizeBytes: MAX_STATE_BYTES + 1 }), { code: 'verify_failed' });
});

/** Answers commands, run states in the order given, and keeps what came. */
function scriptedQmp(states: readonly string[]): { qmp: QmpClient; commands: string[] } {
  const commands: string[] = [];
  const left = [...states];
  const execute = async (command: string, args?: object): Promise<unknown> => {
    commands.push(args === undefined ? command : `${command} ${JSON.stringify(args)}`);
    return command === 'query-status' ? { status: left.shift() } : {};
  };
  return { qmp: { execute } as unknown as QmpClient, commands };
}

const spec = { disks: [{ id: 'root' }, { id: 'transfer' }] } as unknown as MachineSpec;

test('the guest goes on once the state is loaded and it has been told of grown disks', async () => {
  const { qmp, commands } = scriptedQmp(['inmigrate', 'inmigrate', 'paused']);
  await goOn(qmp, spec, { grownDisks: [{ id: 'transfer', sizeBytes: 1024 }] }, never);
  assert.deepEqual(commands, [
    'migrate-set-capabilities {"capabilities":[{"capability":"x-ignore-shared","state":true}]}',
    'migrate-set-parameters {"announce-rounds":0}',
    'migrate-incoming {"uri":"fd:3"}',
    ...['query-status', 'query-status', 'query-status'],
    'block_resize {"node-name":"disk1","size":1024}',
    'cont',
  ]);
});

test('whoever must know before it goes on is told when all else is done, and can keep it from going on', async () => {
  const { qmp, commands } = scriptedQmp(['inmigrate', 'paused']);
  const beforeRun = async (): Promise<void> => {
    assert.equal(commands.at(-1), 'query-status');
    throw new Error('the disk is full');
  };
  await assert.rejects(goOn(qmp, spec, { beforeRun }, never), /the disk is full/);
  assert.equal(commands.includes('cont'), false);
  const second = scriptedQmp(['paused']);
  await goOn(second.qmp, spec, { beforeRun: async () => void second.commands.push('told') }, never);
  assert.deepEqual(second.commands.slice(-2), ['told', 'cont']);
});

test('a guest in a state that no frozen one has does not go on, nor one that is cancelled', async () => {
  for (const status of ['running', 'internal-error', undefined]) {
    const { qmp, commands } = scriptedQmp(status === undefined ? [] : [status]);
    await assert.rejects(goOn(qmp, spec, {}, never), { code: 'vmm_failed' });
    assert.equal(commands.includes('cont'), false);
  }
  const { qmp, commands } = scriptedQmp(['inmigrate']);
  await assert.rejects(goOn(qmp, spec, {}, AbortSignal.abort(new Error('enough'))), /enough/);
  assert.equal(commands.includes('cont'), false);
});
