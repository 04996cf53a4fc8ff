import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock, test } from 'node:test';
import { BangerError } from '../../../core/errors.ts';
import { NO_LOG } from '../../../host/log.ts';
import type { Machine, MachineExit, MachineSpec, VmmDriver } from '../../../vmm/driver.ts';
import { Undo } from '../../undo.ts';
import type { VmFiles } from '../../vm-files.ts';
import { startMachine } from './machine-start.ts';

/** A machine whose guest never says a word, and which counts how often it is ended. */
class SilentMachine implements Machine {
  readonly handles = { pid: 1 } as Machine['handles'];
  readonly exited = new Promise<MachineExit>(() => undefined);
  kills = 0;

  connectChannel(signal: AbortSignal): Promise<never> {
    return new Promise((_resolve, reject) => {
      const giveUp = (): void => reject(new BangerError('cancelled', 'given up'));
      if (signal.aborted) giveUp();
      else signal.addEventListener('abort', giveUp);
    });
  }
  async pause(): Promise<void> {}
  async resume(): Promise<void> {}
  async runState(): Promise<'running'> {
    return 'running';
  }
  save(): Promise<never> {
    return Promise.reject(new BangerError('unsupported', 'a silent machine is not saved'));
  }
  async plug(): Promise<void> {}
  async prepareSave(): Promise<void> {}
  async kill(): Promise<void> {
    this.kills++;
  }
  release(): void {}
}

test('a silent guest is started once more, then given up; every machine is ended', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'banger-start-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const timeout = mock.method(AbortSignal, 'timeout', () => AbortSignal.abort());
  t.after(() => timeout.mock.restore());
  const machines: SilentMachine[] = [];
  const steps: string[] = [];
  const driver = {
    launch: async () => {
      const machine = new SilentMachine();
      machines.push(machine);
      return machine;
    },
  } as unknown as VmmDriver;
  const undo = new Undo();
  const outcome = startMachine({
    driver,
    log: NO_LOG,
    vmId: '0'.repeat(32),
    spec: { name: 'dev', platform: { accelerator: 'tcg' } } as MachineSpec,
    files: { consoleLog: join(dir, 'console.log'), handlesFile: join(dir, 'handles.json') } as VmFiles,
    undo,
    signal: new AbortController().signal,
    say: (step) => steps.push(step),
  });
  await assert.rejects(outcome, {
    code: 'guest_failed',
    message: /^VM "dev" did not come up: .* within 60 s$/,
  });
  assert.deepEqual(
    machines.map(({ kills }) => kills),
    [1, 0],
    'the last one is left to the undo',
  );
  assert.deepEqual(steps, ['start_vmm', 'boot', 'start_vmm', 'boot']);
  assert.deepEqual(await undo.rollBack(), []);
  assert.ok(machines.every(({ kills }) => kills > 0));
});
