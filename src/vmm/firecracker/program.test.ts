import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CommandRunner, createRunner } from '../../host/runner.ts';
import { inspectFirecracker, isUsable } from './program.ts';

const never = new AbortController().signal;

function saying(text: string): CommandRunner {
  return { run: async () => ({ stdout: Buffer.from(text), stderr: '', status: 0 }) };
}

test('its version is in the first line of what it says', async () => {
  const older = 'Firecracker v1.12.1\n\nSupported snapshot data format versions: 1.0.0\n';
  assert.equal(await inspectFirecracker(saying(older), 'f', never), '1.12.1');
  assert.equal(await inspectFirecracker(saying('Firecracker v1.17.0-dev\n'), 'f', never), '1.17.0');
});

test('versions that boot no Debian guest, or lose the way to it, are refused by number', async () => {
  const usable = ['1.10.0', '1.15.9', '1.17.0', '2.0.0'];
  const others = ['0.25.0', '1.5.0', '1.7.0', '1.8.0', '1.9.1', '1.16.0', '1.16.3'];
  for (const version of usable) assert.equal(isUsable(version), true, version);
  for (const version of others) {
    assert.equal(isUsable(version), false, version);
    await assert.rejects(inspectFirecracker(saying(`Firecracker v${version}\n`), 'f', never), {
      code: 'unsupported',
      message: `Firecracker ${version} cannot be used`,
      hint: /1\.10 or later/,
    });
  }
});

test('a program that is not Firecracker, and none', async () => {
  await assert.rejects(inspectFirecracker(saying('hello'), 'f', never), { code: 'vmm_failed' });
  await assert.rejects(inspectFirecracker(createRunner(), '/nonexistent/firecracker', never), {
    code: 'dependency_missing',
    hint: /releases/,
  });
});
