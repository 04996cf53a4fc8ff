/**
 * Firecracker's machines: the contract. With the program itself where there is one and KVM works; everywhere with a model
 * of it, whose guests are real.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { machineContract } from './contract/machines.ts';
import { frozenMachineContract } from './contract/frozen.ts';
import { firecrackerSubject } from './contract/subject.ts';
import { installedFirecracker } from './firecracker/installed.ts';
import { installModel } from './firecracker/model.ts';

const dir = await mkdtemp(join(tmpdir(), 'fc-model-'));
after(() => rm(dir, { recursive: true }));

const model = firecrackerSubject('a model of firecracker', await installModel(dir));
machineContract(model);
frozenMachineContract(model);

const installed = await installedFirecracker();
if ('path' in installed) {
  const itself = firecrackerSubject('firecracker', installed.path);
  machineContract(itself);
  frozenMachineContract(itself);
} else {
  test('the contract with Firecracker itself', { skip: installed.why });
}
