import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertLegal, isLegal, legalStates, VM_ACTIONS } from './lifecycle.ts';
import { VM_STATES } from './model/vm.ts';

test('a VM can be deleted in every state, and started only where it does not run', () => {
  for (const state of VM_STATES) assert.ok(isLegal('delete', state), state);
  assert.deepEqual(
    VM_STATES.filter((state) => isLegal('start', state)),
    ['created', 'stopped', 'saved', 'error'],
  );
});

test('a paused VM can be woken, ended and deleted; who wants something of its guest is told to resume it', () => {
  assert.deepEqual(
    VM_ACTIONS.filter((action) => isLegal(action, 'paused')),
    ['stop', 'restart', 'pause', 'resume', 'kill', 'delete', 'snapshot', 'fork', 'restore'],
  );
  for (const action of ['exec', 'ports', 'health', 'workspace', 'start'] as const) {
    assert.throws(() => assertLegal(action, 'paused', 'dev'), { hint: 'banger vm resume dev' });
  }
  assert.throws(() => assertLegal('set', 'paused', 'dev'), { hint: 'banger vm stop dev' });
});

test('what is not legal is refused with the VM, its state, and a command that leads on', () => {
  for (const action of VM_ACTIONS) {
    for (const state of VM_STATES) {
      if (legalStates(action).includes(state)) {
        assertLegal(action, state, 'dev');
        continue;
      }
      assert.throws(() => assertLegal(action, state, 'dev'), {
        code: 'invalid_state',
        message: new RegExp(`^cannot [a-z ]+ VM "dev": it is ${state}$`),
        hint: /banger vm \w+ dev/,
      });
    }
  }
});
