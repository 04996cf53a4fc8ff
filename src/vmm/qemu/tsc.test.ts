import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BangerError } from '../../core/errors.ts';
import { NO_LOG } from '../../host/log.ts';
import type { CommandRunner } from '../../host/runner.ts';
import { readTscKhz } from './tsc.ts';

function printing(stdout: string): CommandRunner {
  return { run: async () => ({ stdout: Buffer.from(stdout), stderr: '', status: 0 }) };
}

test('takes one plain number in a sane range and nothing else', async () => {
  assert.equal(await readTscKhz(printing('2445430\n'), '/t', NO_LOG), 2_445_430);
  for (const wrong of ['', '0', '99999', '10000001', '2445.43', '2445430 kHz', '-2445430', '1e7', '0x10']) {
    assert.equal(await readTscKhz(printing(wrong), '/t', NO_LOG), undefined, wrong);
  }
});

test('a tool that fails or is missing means: not known', async () => {
  const failing: CommandRunner = {
    run: async () => {
      throw new BangerError('io_error', 'exit status 1');
    },
  };
  assert.equal(await readTscKhz(failing, '/t', NO_LOG), undefined);
});
