import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MachineSpec } from '../driver.ts';
import type { QmpClient } from './qmp.ts';
import { goOn } from './restore.ts';

const never = new AbortController().signal;

/** Answers commands, run states in the order given, and keeps what came. */
function scriptedQmp(states: readonly string[]): { qmp: QmpClient; commands: string[] } {
  const commands: string[] = [];
  const left = [...states];
  const execute = async (command: string, args?: object): Promise<unknown> => {
    commands.push(args === undefined ? command : `${command} ${JSON.stringify(args)}`);
    return command === 'query-status' ? { status: left.shift() } : {};
  };
  const nextEvent = async (): Promise<void> => undefined;
  return { qmp: { execute, nextEvent } as unknown as QmpClient, commands };
}

const spec = { disks: [{ id: 'root' }, { id: 'transfer' }] } as unknown as MachineSpec;

test('the guest goes on once the state is loaded and it has been told of grown disks', async () => {
  const { qmp, commands } = scriptedQmp(['inmigrate', 'inmigrate', 'paused']);
  await goOn(qmp, spec, { grownDisks: [{ id: 'transfer', sizeBytes: 1024 }] }, never);
  assert.deepEqual(commands, [
    'migrate-set-capabilities {"capabilities":[{"capability":"x-ignore-shared","state":true},{"capability":"events","state":true}]}',
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
