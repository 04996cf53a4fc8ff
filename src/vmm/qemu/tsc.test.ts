import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BangerError } from '../../core/errors.ts';
import { NO_LOG } from '../../host/log.ts';
import type { CommandRunner } from '../../host/runner.ts';
import { readTscKhz, steadyTscKhz } from './tsc.ts';

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

test('a measurement of the same counter gives the number that was kept, and is not made again on this start of the host', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'tsc-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'tsc.json');
  const steady = (printed: string): Promise<number | undefined> =>
    steadyTscKhz(printing(printed), '/t', file, NO_LOG);
  assert.equal(await steady('2445430'), 2_445_430);
  assert.equal(await steady('1000000'), 2_445_430, 'the same start of the host');
  const kept = JSON.parse(readFileSync(file, 'utf8')) as object;
  const onAnotherStart = (): void => writeFileSync(file, JSON.stringify({ ...kept, hostBootId: 'another' }));
  onAnotherStart();
  assert.equal(await steady('2445433'), 2_445_430);
  onAnotherStart();
  assert.equal(await steady('2600000'), 2_600_000, 'another counter');
  writeFileSync(file, '{"khz":1}');
  assert.equal(await steady('2445433'), 2_445_433, 'what is kept makes no sense');
});
