import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MachineSpec } from '../driver.ts';
import { bootRequests, diskChangedRequest, loadRequest, machineArgv } from './config.ts';
import { firecrackerShape } from './shape.ts';

function specOf(changes: Partial<MachineSpec> = {}): MachineSpec {
  return {
    name: 'dev',
    platform: { accelerator: 'kvm', machine: 'firecracker', transport: 'mmio', vmmVersion: '1.14.0' },
    vcpus: 2,
    memoryMib: 512,
    memory: { kind: 'anonymous' },
    kernelPath: '/k/vmlinux',
    initramfsPath: '/i/mmio.cpio',
    disks: [
      { id: 'root', path: '/vms/1/root', format: 'raw', readOnly: false },
      { id: 'two-words', path: '/vms/1/transfer.img', format: 'raw', readOnly: true },
    ],
    network: { kind: 'none' },
    socketDir: '/run/vm/1',
    consoleLogPath: '/vms/1/console.log',
    vmmLogPath: '/vms/1/vmm.log',
    ...changes,
  };
}

test('the whole command line; a name becomes an id whatever is in it', () => {
  assert.deepEqual(machineArgv('/opt/firecracker', specOf()), [
    '/opt/firecracker',
    ...['--api-sock', '/run/vm/1/api.sock', '--id', 'dev'],
    ...['--log-path', 'firecracker.log', '--level', 'Warning'],
  ]);
  const idOf = (name: string): string | undefined => machineArgv('f', specOf({ name }))[4];
  assert.equal(idOf('odd, name="é"'), 'odd--name----');
  assert.equal(idOf(''), 'vm');
  assert.equal(idOf('x'.repeat(100))?.length, 64);
});

test('every request of a boot, in order: disks by names of the process’s own directory', () => {
  const requests = bootRequests(specOf()).map(({ method, path, body }) => [`${method} ${path}`, body]);
  const args =
    'console=ttyS0 quiet loglevel=1 panic=-1 reboot=k pci=off i8042.noaux i8042.nomux i8042.dumbkbd ' +
    'cryptomgr.notests lsm=landlock,yama banger.root=/dev/vda banger.rootfstype=ext4';
  const drive = { is_root_device: false, cache_type: 'Writeback' };
  assert.deepEqual(requests, [
    ['PUT /machine-config', { vcpu_count: 2, mem_size_mib: 512, smt: false }],
    ['PUT /boot-source', { kernel_image_path: '/k/vmlinux', initrd_path: '/i/mmio.cpio', boot_args: args }],
    ['PUT /drives/root', { drive_id: 'root', path_on_host: 'disk-root', is_read_only: false, ...drive }],
    [
      'PUT /drives/two_words',
      { drive_id: 'two_words', path_on_host: 'disk-two-words', is_read_only: true, ...drive },
    ],
    ['PUT /vsock', { guest_cid: 3, uds_path: 'vsock.sock' }],
    ['PUT /entropy', {}],
    ['PUT /actions', { action_type: 'InstanceStart' }],
  ]);
  assert.deepEqual(diskChangedRequest('two-words').body, {
    drive_id: 'two_words',
    path_on_host: 'disk-two-words',
  });
  assert.deepEqual(loadRequest(3, '/m').body, {
    snapshot_path: '/proc/self/fd/3',
    mem_backend: { backend_type: 'File', backend_path: '/m' },
    resume_vm: false,
  });
});

test('what it cannot do is refused by name', () => {
  const spec = specOf();
  const [root] = spec.disks;
  assert(root !== undefined);
  const cases: readonly (readonly [Partial<MachineSpec>, RegExp])[] = [
    [{ platform: { ...spec.platform, accelerator: 'tcg' } }, /tcg/],
    [{ platform: { ...spec.platform, machine: 'microvm' } }, /microvm/],
    [{ platform: { ...spec.platform, transport: 'pci' } }, /pci/],
    [{ vcpus: 33 }, /at most 32/],
    [{ disks: [{ ...root, format: 'qcow2' }] }, /no qcow2 disks/],
    [{ network: { kind: 'tap', tap: 't', mac: '52:54:00:00:00:01' } }, /without a network, not "tap"/],
  ];
  for (const [changes, message] of cases) {
    assert.throws(() => machineArgv('f', specOf(changes)), { code: 'unsupported', message });
  }
  for (const mistake of [{ vcpus: 0 }, { memoryMib: 0.5 }, { kernelPath: 'vmlinux' }]) {
    assert.throws(() => bootRequests(specOf(mistake)), { name: 'AssertionError' });
  }
});

test('a shape has what a state depends on, and nothing of one machine', () => {
  const facts = {
    vmm: 'Firecracker v1.14.0',
    program: '/opt/firecracker, 3 bytes, of 1',
    digests: { kernel: 'k', initramfs: 'i' },
    hostCpu: 'model',
  };
  const shape = (changes: Partial<MachineSpec> = {}) => firecrackerShape(specOf(changes), facts);
  const [root, transfer] = specOf().disks;
  assert(root !== undefined && transfer !== undefined);
  const another: Partial<MachineSpec> = {
    ...{ name: 'other', socketDir: '/run/vm/2', kernelPath: '/k2', consoleLogPath: '/c', vmmLogPath: '/v' },
    disks: [{ ...root, path: '/vms/2/root' }, transfer],
  };
  assert.deepEqual(shape(another), shape());
  const others: readonly Partial<MachineSpec>[] = [
    { vcpus: 3 },
    { memoryMib: 256 },
    { disks: [root] },
    { disks: [transfer, root] },
    { disks: [{ ...root, readOnly: true }, transfer] },
  ];
  for (const other of others) assert.notDeepEqual(shape(other), shape(), JSON.stringify(other));
  const values = Object.values(shape());
  for (const value of Object.values({ ...facts, ...facts.digests })) {
    if (typeof value === 'string') assert(values.includes(value), value);
  }
});
