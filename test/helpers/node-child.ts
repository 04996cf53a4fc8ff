/** Another process that runs a few lines of ours: for locks, kills and other users. */

import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';

export type NodeChild = ChildProcessByStdio<Writable, Readable, null>;

const started = new Set<NodeChild>();

/** Starts an ES module script; its stderr is the test's. */
export function startNode(script: string): NodeChild {
  const args = ['--input-type=module', '-e', script];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  started.add(child);
  return child;
}

/** For afterEach: a test that failed half-way must not leave its writer behind. */
export async function killStarted(): Promise<void> {
  await Promise.all([...started].map(killNode));
  started.clear();
}

/** Resolves with the first thing it prints; rejects when it ends without a word. */
export async function firstOutput(child: NodeChild): Promise<string> {
  const ended = once(child, 'exit').then(() => assert.fail('the child ended without a word'));
  const [chunk] = (await Promise.race([once(child.stdout, 'data'), ended])) as [Buffer];
  return chunk.toString();
}

/** All it prints, once it has ended well. */
export async function wholeOutput(child: NodeChild): Promise<string> {
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
  assert.deepEqual([status, signal], [0, null]);
  return Buffer.concat(chunks).toString();
}

export async function killNode(child: NodeChild): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}
