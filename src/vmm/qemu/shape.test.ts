import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MachineSpec } from '../driver.ts';
import { shapeDifferences, shapeKey } from '../shape.ts';
import { qemuShape, type ShapeFacts } from './shape.ts';

const SPEC: MachineSpec = {
  name: 'dev',
  platform: { accelerator: 'tcg', machine: 'microvm', transport: 'mmio', vmmVersion: '7.2.22' },
  vcpus: 2,
  memoryMib: 512,
  memory: { kind: 'anonymous' },
  kernelPath: '/k/vmlinux',
  initramfsPath: '/i/mmio.cpio',
  disks: [{ id: 'root', path: '/vms/1/root.qcow2', format: 'qcow2', readOnly: false }],
  network: { kind: 'unplugged', mac: '52:54:00:00:00:01' },
  socketDir: '/run/vm/1',
  consoleLogPath: '/vms/1/console.log',
  vmmLogPath: '/vms/1/vmm.log',
};
const FACTS: ShapeFacts = {
  vmm: 'QEMU emulator version 7.2.22',
  program: '/usr/bin/qemu, 1 bytes, of 2',
  digests: { kernel: 'k', initramfs: 'i' },
  tscKhz: 2_000_000,
  hostCpu: 'some CPU',
};
const shape = qemuShape(SPEC, FACTS);

test('what is one machine’s own is not in the shape', () => {
  const own: readonly Partial<MachineSpec>[] = [
    { name: 'other' },
    { memory: { kind: 'file', path: '/t/memory' } },
    { kernelPath: '/other', initramfsPath: '/other' },
    { disks: [{ id: 'root', path: '/vms/2/root.qcow2', format: 'qcow2', readOnly: false }] },
    { network: { kind: 'tap', tap: 'bngr1', mac: '52:54:00:00:00:09' } },
    {
      network: {
        kind: 'user',
        outbound: true,
        mac: '52:54:00:00:00:02',
        guestIp: '10.0.0.2',
        gatewayIp: '10.0.0.1',
        dnsIp: '10.0.0.3',
      },
    },
    { socketDir: '/x', consoleLogPath: '/x', vmmLogPath: '/x' },
  ];
  for (const changes of own) assert.deepEqual(qemuShape({ ...SPEC, ...changes }, FACTS), shape);
  assert.deepEqual(
    qemuShape(SPEC, { ...FACTS, hostCpu: 'another' }),
    shape,
    'emulation does not show the host’s',
  );
});

test('everything else is, each under its name, and changes the key', () => {
  const disk = SPEC.disks[0] as MachineSpec['disks'][0];
  const q35 = { accelerator: 'tcg', machine: 'q35', transport: 'pci', vmmVersion: '' } as const;
  const others: readonly (readonly [string, Partial<MachineSpec>, Partial<ShapeFacts>])[] = [
    ['memory', { memoryMib: 513 }, {}],
    ['vCPUs', { vcpus: 3 }, {}],
    ['machine', { platform: q35 }, {}],
    ['accelerator', { platform: { ...SPEC.platform, accelerator: 'kvm' } }, {}],
    ['CPU model', { platform: { ...SPEC.platform, accelerator: 'kvm' } }, {}],
    ['host CPU', { platform: { ...SPEC.platform, accelerator: 'kvm' } }, {}],
    ['devices', { network: { kind: 'none' } }, {}],
    ['devices', { disks: [disk, disk] }, {}],
    ['devices', { disks: [{ ...disk, id: 'other' }] }, {}],
    ['other arguments', { disks: [{ ...disk, format: 'raw' }] }, {}],
    ['other arguments', { disks: [{ ...disk, readOnly: true }] }, {}],
    ['kernel command line', { disks: [] }, {}],
    ['kernel command line', {}, { tscKhz: 2_000_001 }],
    ['VMM', {}, { vmm: 'QEMU emulator version 7.2.23' }],
    ['VMM program', {}, { program: '/usr/bin/qemu, 1 bytes, of 3' }],
    ['kernel', {}, { digests: { kernel: 'other', initramfs: 'i' } }],
    ['initramfs', {}, { digests: { kernel: 'k', initramfs: 'other' } }],
  ];
  for (const [name, changes, facts] of others) {
    const other = qemuShape({ ...SPEC, ...changes }, { ...FACTS, ...facts });
    const differences = shapeDifferences(shape, other);
    assert(
      differences.some((text) => text.startsWith(`${name}: `)),
      `${name}: ${differences.join()}`,
    );
    assert.notEqual(shapeKey(other), shapeKey(shape), name);
  }
  const kvm = { ...SPEC, platform: { ...SPEC.platform, accelerator: 'kvm' as const } };
  assert.notDeepEqual(qemuShape(kvm, FACTS), qemuShape(kvm, { ...FACTS, hostCpu: 'another' }));
});
