/** Makes file calls of a process fail: shim.c, and how to work it. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';

const DOOR = '/fault-injection';
/** Calls that need space on the disk, and calls that only need it to work. */
const CLASSES = { ENOSPC: 1, EIO: 1 + 2 } as const;

export type Fault = keyof typeof CLASSES;

/**
 * Compiles the shim into `dir`. Returns what a process needs in its environment for files below `below`; with `log`, to
 * append to that file what it makes durable, renames and removes there.
 */
export function faultEnvironment(dir: string, below: string, log?: string): Readonly<Record<string, string>> {
  const library = join(dir, 'shim.so');
  const source = join(import.meta.dirname, 'shim.c');
  const flags = ['-shared', '-fPIC', '-O1', '-Wall', '-Wextra', '-Werror', '-Wno-nonnull'];
  const cc = spawnSync('cc', [...flags, '-o', library, source, '-ldl'], { encoding: 'utf8' });
  assert.equal(cc.status, 0, cc.stderr);
  return { LD_PRELOAD: library, FAULT_DIR: below, ...(log === undefined ? {} : { FAULT_LOG: log }) };
}

/** From now on, the `n`-th call that can meet this fault does; with `persistent` all after it, too. */
export function arm(n: number, fault: Fault, persistent: boolean): void {
  const errno = constants.errno[fault];
  readlinkSync(`${DOOR}/arm/${n}/${errno}/${persistent ? 1 : 0}/${CLASSES[fault]}`);
}

export interface Injected {
  /** Calls that could have met the fault. */
  readonly calls: number;
  /** Calls that did. */
  readonly fired: number;
  /** The first that did: `fsync`. */
  readonly name: string;
}

export function disarm(): Injected {
  const [calls, fired, name = ''] = readlinkSync(`${DOOR}/disarm`).split(' ');
  return { calls: Number(calls), fired: Number(fired), name };
}
