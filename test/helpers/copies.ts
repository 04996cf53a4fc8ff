/** What tests of copied VMs share: a program of a test's own that a guest goes on running, and talking to it. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { VmForked } from '../../src/api/results/vm.ts';
import { type Running, settled, type TestHome } from './test-home.ts';

/** Small, and from boot on as in every other test of copies. */
export async function source(home: TestHome, ...flags: readonly string[]): Promise<void> {
  await home.ok(['vm', 'run', '-d', '--name', 'dev', '--memory', '512M', ...flags]);
}

/** Copies of a VM; their names. */
export async function fork(home: TestHome, vm: string, count: number): Promise<readonly string[]> {
  const { vms } = await home.json<VmForked>(['vm', 'fork', vm, '--count', String(count)]);
  assert.equal(vms.length, count);
  return vms.map(({ name }) => name);
}

export async function snapshot(home: TestHome, vm: string, name: string): Promise<void> {
  assert.equal(await home.ok(['vm', 'snapshot', 'create', vm, '--name', name]), `${name}\n`);
}

/** Copies made of a snapshot; their names. */
export async function forkOf(
  home: TestHome,
  snapshotName: string,
  count: number,
): Promise<readonly string[]> {
  const args = ['vm', 'fork', '--snapshot', snapshotName, '--count', String(count)];
  return (await home.json<VmForked>(args)).vms.map(({ name }) => name);
}

/** Leaves a Python program running in the guest, by itself; returns when it has made the file `ready`. */
export async function leaveRunning(home: TestHome, vm: string, program: string): Promise<void> {
  const path = `/root/${digest(program)}.py`;
  await home.ok(['vm', 'exec', vm, '--', 'sh', '-c', `cat > ${path}; rm -f /dev/shm/ready`], {
    input: program,
  });
  await home.guest(
    vm,
    'sh',
    '-c',
    `setsid python3 ${path} > ${path}.log 2>&1 < /dev/null & echo $! > ${path}.pid`,
  );
  const script = `while kill -0 $(cat ${path}.pid); do test -e /dev/shm/ready && exit; sleep 0.1; done; cat ${path}.log >&2; exit 1`;
  await home.guest(vm, 'sh', '-c', script);
}

/** Waits in the guest until the file is there, and gives its content. */
export async function fileOf(home: TestHome, vm: string, path: string): Promise<string> {
  const script = `for i in $(seq 200); do test -s ${path} && exec cat ${path}; sleep 0.1; done; echo no ${path} >&2; exit 1`;
  return await home.guest(vm, 'sh', '-c', script);
}

/** A conversation with a program in a guest: a line to it, and the line it answers. */
export class Dialogue {
  readonly #running: Running;

  constructor(home: TestHome, vm: string, ...argv: readonly string[]) {
    this.#running = home.start(['vm', 'exec', vm, '--', ...argv], { keepInput: true });
  }

  async ask(line: string): Promise<string> {
    const running = this.#running;
    const { child } = running;
    const before = running.stdout().length;
    child.stdin.write(`${line}\n`);
    // Waiting for the event, not looking every so often: tests measure with this.
    while (!running.stdout().slice(before).includes('\n')) {
      const heard = new AbortController();
      const { signal } = heard;
      const events = ['data', 'close'].map((name) => once(child.stdout, name, { signal }).catch(() => []));
      await Promise.race(events);
      heard.abort();
      assert.ok(!child.stdout.closed, `it ended: ${running.stderr()}`);
    }
    return running.stdout().slice(before).trimEnd();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#running.child.stdin.end();
    await this.#running.done;
  }
}

export function assertDistinct(values: readonly string[], what: string): void {
  for (const value of values) assert.notEqual(value, '', `${what} is empty`);
  assert.equal(new Set(values).size, values.length, `${what}: ${values.join(' ')}`);
}

/** Deletes copies and waits for none: a test that needs the memory says so. */
export async function drop(home: TestHome, names: readonly string[]): Promise<void> {
  await home.ok(['vm', 'delete', ...names]);
  await settled(async () => (await home.vms()).every(({ name }) => !names.includes(name)));
}

function digest(text: string): string {
  let hash = 0;
  for (const character of text) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  return hash.toString(16);
}
