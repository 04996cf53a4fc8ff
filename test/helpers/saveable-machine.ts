/** A machine of a few bytes, which can be paused and saved, and tells what was done to it. */

import assert from 'node:assert/strict';
import { truncateSync, writeFileSync } from 'node:fs';
import { BangerError } from '../../src/core/errors.ts';
import { writeMachineFacts } from '../../src/daemon/services/vms/machine-facts.ts';
import type { VmFiles } from '../../src/daemon/vm-files.ts';
import type {
  FrozenState,
  Machine,
  MachineExit,
  MachineHandles,
  MachineRunState,
  SaveOptions,
} from '../../src/vmm/driver.ts';
import { FRAME_TYPES } from '../../src/core/channel/frame.ts';
import { FakeGuest } from './fake-guest.ts';

const MEMORY_BYTES = 1024 ** 2;

export class SaveableMachine implements Machine {
  readonly handles: MachineHandles = {
    ...{ driver: 'qemu', pid: 4_000_000, pidStartTicks: 1, hostBootId: 'b', argv: [] },
    controlSocketPath: '/c',
    channelSocketPath: '/a',
  };
  readonly exited = new Promise<MachineExit>(() => undefined);
  state: MachineRunState = 'running';
  isGone = false;
  savedSincePause = false;
  saves = 0;
  resumes = 0;
  failure: Error | undefined;
  whileSaving: () => void = () => undefined;

  async connectChannel() {
    return new FakeGuest({
      onFrame: (frame, guest) => {
        if (frame.type === FRAME_TYPES.open) guest.close(frame.stream, { kind: 'done', status: 0 });
      },
    }).hostSide;
  }
  async pause(): Promise<void> {
    this.state = 'paused';
  }
  async resume(): Promise<void> {
    this.resumes += 1;
    this.state = 'running';
    this.savedSincePause = false;
  }
  async runState(): Promise<MachineRunState> {
    return this.state;
  }
  async save({ statePath, memoryPath }: SaveOptions): Promise<FrozenState> {
    assert.equal(this.state, 'paused');
    if (this.savedSincePause) throw new BangerError('invalid_state', 'the machine has been saved');
    this.savedSincePause = true;
    this.saves += 1;
    writeFileSync(memoryPath, 'memory');
    truncateSync(memoryPath, MEMORY_BYTES);
    if (this.failure !== undefined) throw this.failure;
    writeFileSync(statePath, 'state');
    this.whileSaving();
    return { path: statePath, sizeBytes: 5, sha256: 'e'.repeat(64) };
  }
  async plug(): Promise<void> {}
  async prepareSave(): Promise<void> {}
  async kill(): Promise<void> {
    this.isGone = true;
  }
  release(): void {}
}

/** As a start leaves them. */
export async function writeFacts(files: VmFiles): Promise<void> {
  await writeMachineFacts(files, {
    ...{ shape: { vmm: 'QEMU 7' }, kernelName: 'cloud', accelerator: 'tcg', machine: 'microvm' },
    digests: { kernel: 'a'.repeat(64), initramfs: 'b'.repeat(64) },
    rootfsSha256: 'c'.repeat(64),
  });
}
