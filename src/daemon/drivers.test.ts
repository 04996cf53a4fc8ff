import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_CONFIG } from '../host/config.ts';
import { createRunner } from '../host/runner.ts';
import type { Machine, MachineHandles, VmmDriver } from '../vmm/driver.ts';
import { adoptingAll, createDriver, vmmProgramOf } from './drivers.ts';
import { assertDriverCan, diskFormatOf, networkFor, rootDiskFormat } from './services/vms/driver-limits.ts';

const deps = { runner: createRunner(), guestBinDir: '/nonexistent' };
const qemu = createDriver(DEFAULT_CONFIG, deps);
const firecracker = createDriver({ ...DEFAULT_CONFIG, driver: 'firecracker' }, deps);

test('the settings choose the driver and its program', () => {
  assert.deepEqual([qemu.name, firecracker.name], ['qemu', 'firecracker']);
  assert.equal(vmmProgramOf(DEFAULT_CONFIG), 'qemu-system-x86_64');
  const config = { driver: 'firecracker', qemuBin: '/q', firecrackerBin: null } as const;
  assert.equal(vmmProgramOf(config), 'firecracker');
  assert.equal(vmmProgramOf(config, 'qemu'), '/q');
  assert.equal(vmmProgramOf({ ...config, firecrackerBin: '/f' }), '/f');
});

test('a machine is found by the driver that started it, and by no other', async () => {
  const asked: string[] = [];
  const finder = (driver: VmmDriver): VmmDriver => ({
    ...driver,
    name: driver.name,
    capabilities: driver.capabilities,
    adopt: async ({ driver: name }) => {
      asked.push(`${driver.name} for ${name}`);
      return {} as Machine;
    },
  });
  const driver = adoptingAll(finder(firecracker), [finder(qemu)]);
  assert.equal(driver.name, 'firecracker');
  for (const name of ['qemu', 'firecracker'] as const) {
    await driver.adopt({ driver: name } as unknown as MachineHandles);
  }
  assert.deepEqual(asked, ['qemu for qemu', 'firecracker for firecracker']);
});

test('what the daemon does otherwise with a driver that cannot', () => {
  const addresses = { guestIp: '10.0.0.2', gatewayIp: '10.0.0.1', dnsIp: '10.0.0.3' };
  const user = { kind: 'user', outbound: false, mac: '52:54:00:00:00:01', ...addresses } as const;
  assert.equal(networkFor(qemu.capabilities, user), user);
  assert.deepEqual(networkFor(firecracker.capabilities, user), { kind: 'none' });
  assert.deepEqual(
    [qemu, firecracker].map(({ capabilities }) => rootDiskFormat(capabilities)),
    ['qcow2', 'raw'],
  );
  for (const { name, capabilities } of [qemu, firecracker]) {
    assert.equal(diskFormatOf({ driver: name }), rootDiskFormat(capabilities));
  }
  for (const nat of [true, false]) assertDriverCan(qemu, { nat });
  assertDriverCan(firecracker, { nat: false });
  assert.throws(() => assertDriverCan(firecracker, { nat: true }), { code: 'unsupported', message: /--nat/ });
});
