/** The floor of a clone: the driver alone restores a frozen machine; nothing of the daemon, and nothing is told to the guest. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FrozenState, MachineSpec } from '../../src/vmm/driver.ts';
import type { MachineShape } from '../../src/vmm/shape.ts';
import { bareDriver, BareMachine, type BareOptions, bareSpec } from './bare-machine.ts';

const SAVE_TIMEOUT_MS = 60_000;
/** Nobody else uses this template. */
const DIGESTS = { kernel: 'benchmark', initramfs: 'benchmark' };

export interface PreparedClone {
  readonly dir: string;
  readonly spec: MachineSpec;
}

export class BareTemplate implements AsyncDisposable {
  readonly #dir: string;
  readonly #options: BareOptions;
  readonly #state: FrozenState;
  readonly #shape: MachineShape;
  readonly #driver = bareDriver();

  private constructor(dir: string, options: BareOptions, state: FrozenState, shape: MachineShape) {
    this.#dir = dir;
    this.#options = options;
    this.#state = state;
    this.#shape = shape;
  }

  static async make(options: BareOptions): Promise<BareTemplate> {
    const dir = mkdtempSync(join(tmpdir(), 'bt-'));
    const driver = bareDriver();
    const spec: MachineSpec = {
      ...(await bareSpec(dir, options)),
      network: { kind: 'unplugged', mac: '52:54:00:00:00:01' },
    };
    const signal = AbortSignal.timeout(SAVE_TIMEOUT_MS);
    const shape = await driver.shape(spec, DIGESTS, signal);
    const machine = await driver.launch(spec, async () => undefined);
    const bare = await BareMachine.connect(dir, machine);
    await bare.agent.sync();
    bare.agent.close();
    await machine.pause();
    const paths = { statePath: join(dir, 'state'), memoryPath: join(dir, 'memory') };
    const state = await machine.save({ ...paths, signal });
    await machine.kill();
    return new BareTemplate(dir, options, state, shape);
  }

  /** A clone's own directory and disks. */
  async prepare(): Promise<PreparedClone> {
    const dir = mkdtempSync(join(tmpdir(), 'bc-'));
    const base = { path: join(this.#dir, 'root.qcow2'), format: 'qcow2' } as const;
    const memory = { kind: 'file', path: join(this.#dir, 'memory') } as const;
    return { dir, spec: { ...(await bareSpec(dir, this.#options, base)), memory } };
  }

  async restore({ dir, spec }: PreparedClone): Promise<BareMachine> {
    const options = {
      state: this.#state,
      shape: this.#shape,
      digests: DIGESTS,
      signal: AbortSignal.timeout(SAVE_TIMEOUT_MS),
    };
    const machine = await this.#driver.restore(spec, options, async () => undefined);
    return await BareMachine.connect(dir, machine);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
