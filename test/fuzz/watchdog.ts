/**
 * A thread that ends the process when the main thread is stuck: a loop that does not end cannot be noticed from inside.
 * The case being run lies in shared memory, so that it can be saved.
 */

import { writeFileSync } from 'node:fs';
import { Worker, isMainThread, workerData } from 'node:worker_threads';

const COUNTER = 0;
const LENGTH = 1;
const HEADER_BYTES = 8;
const CHECK_MS = 1000;
const STUCK_CHECKS = 60;

interface Shared {
  readonly memory: SharedArrayBuffer;
  readonly failurePath: string;
}

export class Watchdog {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #worker: Worker;

  constructor(capacityBytes: number, failurePath: string) {
    const memory = new SharedArrayBuffer(HEADER_BYTES + capacityBytes);
    this.#words = new Int32Array(memory, 0, 2);
    this.#bytes = new Uint8Array(memory, HEADER_BYTES);
    const shared: Shared = { memory, failurePath };
    this.#worker = new Worker(new URL(import.meta.url), { workerData: shared });
    this.#worker.unref();
  }

  /** A new case begins. */
  begin(bytes: Uint8Array): void {
    const kept = bytes.subarray(0, this.#bytes.length);
    this.#bytes.set(kept);
    Atomics.store(this.#words, LENGTH, kept.length);
    Atomics.add(this.#words, COUNTER, 1);
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}

function watch({ memory, failurePath }: Shared): void {
  const words = new Int32Array(memory, 0, 2);
  let last = -1;
  let same = 0;
  setInterval(() => {
    const counter = Atomics.load(words, COUNTER);
    same = counter === last ? same + 1 : 0;
    last = counter;
    if (same < STUCK_CHECKS) return;
    writeFileSync(failurePath, new Uint8Array(memory, HEADER_BYTES, Atomics.load(words, LENGTH)));
    process.stderr.write(`fuzz: hangs; input saved as ${failurePath}\n`);
    process.kill(process.pid, 'SIGKILL');
  }, CHECK_MS);
}

if (!isMainThread) watch(workerData as Shared);
