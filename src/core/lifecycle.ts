/**
 * The states of a VM and what is legal in each: the one table that the daemon obeys,
 * the CLI's messages quote and docs/vm.md shows.
 *
 *   created → starting → running → stopping → stopped
 *                          ↑↓    ↗
 *                 saved ⇄ paused               any → error
 */

import { BangerError } from './errors.ts';
import type { VmState } from './model/vm.ts';

export const VM_ACTIONS = [
  'start',
  'stop',
  'restart',
  'pause',
  'resume',
  'kill',
  'delete',
  'set',
  'exec',
  'cp',
  'ports',
  'health',
  'workspace',
  'snapshot',
  'fork',
  'restore',
] as const;
export type VmAction = (typeof VM_ACTIONS)[number];

const LEGAL: Record<VmAction, readonly VmState[]> = {
  start: ['created', 'stopped', 'saved', 'error'],
  stop: ['running', 'paused', 'saved', 'error'],
  restart: ['running', 'paused', 'saved', 'stopped', 'created', 'error'],
  pause: ['running', 'paused', 'saved'],
  resume: ['running', 'paused', 'saved'],
  kill: ['starting', 'running', 'stopping', 'paused', 'saved', 'error'],
  delete: ['created', 'starting', 'running', 'stopping', 'stopped', 'paused', 'saved', 'error'],
  set: ['created', 'stopped', 'error'],
  exec: ['running'],
  cp: ['running'],
  ports: ['running'],
  health: ['running'],
  workspace: ['running'],
  snapshot: ['running', 'paused', 'stopped', 'error'],
  fork: ['running', 'paused'],
  restore: ['created', 'running', 'paused', 'stopped', 'error'],
};

/** Where the action's name is no verb that goes with a VM. */
const WORDS: Partial<Record<VmAction, string>> = {
  set: 'change',
  exec: 'run anything in',
  cp: 'copy files of',
  ports: 'list the ports of',
  health: 'ask the agent of',
  workspace: 'work on the repository in',
};

/** What to run to get from a state to one where the action is legal. */
function wayOut(action: VmAction, state: VmState, name: string): string {
  if (state === 'starting' || state === 'stopping') return `wait until it is done: banger vm show ${name}`;
  if (state === 'paused' || state === 'saved')
    return action === 'set' || action === 'restore' ? `banger vm stop ${name}` : `banger vm resume ${name}`;
  if (action === 'start')
    return `banger vm exec ${name} runs commands in it; banger vm restart ${name} starts it anew`;
  if (state === 'running') return `banger vm stop ${name}`;
  if (action === 'kill' || action === 'stop')
    return `there is nothing to end; banger vm start ${name} starts it`;
  return `banger vm start ${name}`;
}

export function isLegal(action: VmAction, state: VmState): boolean {
  return LEGAL[action].includes(state);
}

/** The states in which an action is legal, for messages and docs. */
export function legalStates(action: VmAction): readonly VmState[] {
  return LEGAL[action];
}

/** Throws `invalid_state` naming the VM, its state and the way out. */
export function assertLegal(action: VmAction, state: VmState, name: string): void {
  if (isLegal(action, state)) return;
  throw new BangerError('invalid_state', `cannot ${WORDS[action] ?? action} VM "${name}": it is ${state}`, {
    hint: wayOut(action, state, name),
  });
}
