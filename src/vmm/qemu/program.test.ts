import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BangerError } from '../../core/errors.ts';
import { type CommandRunner, createRunner } from '../../host/runner.ts';
import { inspectQemu } from './program.ts';

const never = new AbortController().signal;
const MACHINES = `Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
`;

function saying(version: string, machines: string): CommandRunner {
  return {
    run: async (argv) => ({
      stdout: Buffer.from(argv[1] === '--version' ? version : machines),
      stderr: '',
      status: 0,
    }),
  };
}

test('reads the version and which of our machine types are there', async () => {
  const debian = 'QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003-2022\n';
  const found = await inspectQemu(saying(debian, MACHINES), 'q', never);
  assert.equal(found.version, '7.2.22');
  assert.deepEqual([...found.machines].sort(), ['microvm', 'q35']);
  const other = await inspectQemu(saying('QEMU emulator version 10.0', 'q35  x\n'), 'q', never);
  assert.deepEqual([other.version, ...other.machines], ['10.0', 'q35']);
});

test('a program that is not QEMU, one that fails and one that is missing', async () => {
  await assert.rejects(inspectQemu(saying('hello', ''), 'q', never), { code: 'vmm_failed' });
  const missing = inspectQemu(createRunner(), '/nonexistent/qemu', never);
  await assert.rejects(missing, (error) => {
    assert(error instanceof BangerError);
    assert.equal(error.code, 'dependency_missing');
    assert.match(error.hint ?? '', /qemu-system-x86/);
    return true;
  });
  await assert.rejects(inspectQemu(createRunner(), 'false', never), { code: 'vmm_failed' });
  const cancelled: CommandRunner = {
    run: async () => {
      throw new BangerError('cancelled', 'q was cancelled');
    },
  };
  await assert.rejects(inspectQemu(cancelled, 'q', never), { code: 'cancelled' });
});
