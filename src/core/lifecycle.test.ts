import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertLegal, isLegal, legalStates, VM_ACTIONS } from './lifecycle.ts';
import { VM_STATES } from './model/vm.ts';

test('a VM can be deleted in every state, and started only where it does not run', () => {
  for (const state of VM_STATES) assert.ok(isLegal('delete', state), state);
  assert.deepEqual(
    VM_STATES.filter((state) => isLegal('start', state)),
    ['created', 'stopped', 'error'],
  );
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
        message: `cannot ${action} VM "dev": it is ${state}`,
        hint: /banger vm \w+ dev/,
      });
    }
  }
});
