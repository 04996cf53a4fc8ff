import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { MachineSpec, Platform } from '../driver.ts';
import { escapeOption, machineArgv, memoryBytesOf, needsTscRate } from './config.ts';

const MICROVM: Platform = { accelerator: 'tcg', machine: 'microvm', transport: 'mmio', vmmVersion: '7.2.22' };
const Q35_KVM: Platform = { accelerator: 'kvm', machine: 'q35', transport: 'pci', vmmVersion: '7.2.22' };

function specOf(changes: Partial<MachineSpec> = {}): MachineSpec {
  return {
    name: 'dev',
    platform: MICROVM,
    vcpus: 2,
    memoryMib: 512,
    memory: { kind: 'anonymous' },
    kernelPath: '/k/vmlinux',
    initramfsPath: '/i/mmio.cpio',
    disks: [],
    network: { kind: 'none' },
    socketDir: '/run/vm/1',
    consoleLogPath: '/vms/1/console.log',
    vmmLogPath: '/vms/1/vmm.log',
    ...changes,
  };
}

/** The values of one option, in order. */
function valuesOf(argv: readonly string[], option: string): readonly string[] {
  return argv.flatMap((word, index) => (argv[index - 1] === option ? [word] : []));
}

/** How QEMU reads an option string: a comma ends a pair, two are one (qemu(1); util/keyval.c, get_opt_value). */
function parseOptions(text: string): Record<string, string> {
  return Object.fromEntries(
    splitOptions(text).map((pair) => {
      const equals = pair.indexOf('=');
      return equals === -1 ? [pair, ''] : [pair.slice(0, equals), pair.slice(equals + 1)];
    }),
  );
}

function splitOptions(text: string): readonly string[] {
  const pairs: string[] = [];
  let pair = '';
  for (let at = 0; at < text.length; at++) {
    const isComma = text[at] === ',';
    if (isComma && text[at + 1] !== ',') {
      pairs.push(pair);
      pair = '';
      continue;
    }
    if (isComma) at++;
    pair += text[at];
  }
  return [...pairs, pair];
}

test('the whole command line of an emulated microvm with two disks and a closed network', () => {
  const argv = machineArgv(
    'qemu-system-x86_64',
    specOf({
      disks: [
        { id: 'root', path: '/vms/1/root.qcow2', format: 'qcow2', readOnly: false },
        { id: 'transfer', path: '/vms/1/transfer.img', format: 'raw', readOnly: true },
      ],
      network: {
        kind: 'user',
        outbound: false,
        mac: '52:54:00:aa:bb:cc',
        guestIp: '10.4.5.6',
        gatewayIp: '10.4.5.1',
        dnsIp: '10.4.5.254',
      },
    }),
    2_445_430,
  );
  assert.deepEqual(argv, [
    'qemu-system-x86_64',
    ...['-name', 'guest=dev'],
    ...[
      '-M',
      'microvm,dump-guest-core=off,memory-backend=memory',
      '-accel',
      'tcg,thread=multi',
      '-cpu',
      'max,-erms',
    ],
    ...['-smp', '2', '-m', '512M', '-object', 'memory-backend-ram,id=memory,size=512M'],
    ...['-no-user-config', '-nodefaults', '-no-reboot', '-display', 'none'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-global', 'virtio-mmio.force-legacy=false'],
    ...['-kernel', '/k/vmlinux', '-initrd', '/i/mmio.cpio'],
    '-append',
    [
      'console=ttyS0 quiet loglevel=1 panic=-1 no_timer_check cryptomgr.notests lsm=landlock,yama',
      'norandmaps tsc_early_khz=2445430 tsc=reliable banger.root=/dev/vda banger.rootfstype=ext4',
    ].join(' '),
    ...[
      '-chardev',
      'socket,id=qmp,path=/run/vm/1/qmp.sock,server=on,wait=off',
      '-mon',
      'chardev=qmp,mode=control',
    ],
    ...['-chardev', 'file,id=console,path=/vms/1/console.log,append=on', '-serial', 'chardev:console'],
    '-blockdev',
    '{"driver":"qcow2","node-name":"disk0","read-only":false,"discard":"unmap","file":{"driver":"file","filename":"/vms/1/root.qcow2","read-only":false,"discard":"unmap"}}',
    ...['-device', 'virtio-blk-device,drive=disk0,serial=root'],
    '-blockdev',
    '{"driver":"raw","node-name":"disk1","read-only":true,"discard":"unmap","file":{"driver":"file","filename":"/vms/1/transfer.img","read-only":true,"discard":"unmap"}}',
    ...['-device', 'virtio-blk-device,drive=disk1,serial=transfer'],
    ...['-device', 'virtio-serial-device'],
    ...['-chardev', 'socket,id=agent,path=/run/vm/1/agent.sock,server=on,wait=off'],
    ...['-device', 'virtserialport,chardev=agent,name=org.banger.agent.0'],
    '-netdev',
    'user,id=net0,ipv6=off,net=10.4.5.0/24,host=10.4.5.1,dns=10.4.5.254,dhcpstart=10.4.5.6,restrict=on',
    ...['-device', 'virtio-net-device,netdev=net0,mac=52:54:00:aa:bb:cc'],
  ]);
});

test('KVM on q35: the host’s CPU, PCI devices, no rate, no disk, no root argument', () => {
  const argv = machineArgv(
    '/opt/qemu',
    specOf({ platform: Q35_KVM, network: { kind: 'tap', tap: 'bngr0', mac: '52:54:00:00:00:01' } }),
    undefined,
  );
  assert.deepEqual(valuesOf(argv, '-M'), ['q35,dump-guest-core=off,memory-backend=memory']);
  assert.deepEqual(valuesOf(argv, '-accel'), ['kvm']);
  assert.deepEqual(valuesOf(argv, '-cpu'), ['host']);
  assert.deepEqual(valuesOf(argv, '-netdev'), ['tap,id=net0,ifname=bngr0,script=no,downscript=no']);
  assert.deepEqual(valuesOf(argv, '-device'), [
    'virtio-serial-pci',
    'virtserialport,chardev=agent,name=org.banger.agent.0',
    'virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01,romfile=',
  ]);
  assert.equal(argv.includes('-global'), false);
  assert.doesNotMatch(valuesOf(argv, '-append').join(), /tsc|banger\./);
});

test('outbound opens the user network', () => {
  const network = {
    kind: 'user',
    mac: '52:54:00:00:00:01',
    guestIp: '10.0.0.2',
    gatewayIp: '10.0.0.1',
    dnsIp: '10.0.0.3',
  };
  const argv = machineArgv('q', specOf({ network: { ...network, kind: 'user', outbound: true } }), 2e6);
  assert.match(valuesOf(argv, '-netdev').join(), /restrict=off$/);
  assert.doesNotMatch(valuesOf(argv, '-netdev').join(), /hostfwd/);
});

test('memory lies in the process or in a file that stays as it is; a card without a cable hangs on a hub', () => {
  const argv = machineArgv(
    'q',
    specOf({
      memory: { kind: 'file', path: '/t/memory' },
      network: { kind: 'unplugged', mac: '52:54:00:00:00:01' },
    }),
    2e6,
  );
  assert.deepEqual(valuesOf(argv, '-M'), ['microvm,dump-guest-core=off,memory-backend=memory']);
  assert.deepEqual(valuesOf(argv, '-object'), [
    'memory-backend-file,id=memory,size=512M,share=off,mem-path=/t/memory',
  ]);
  assert.deepEqual(valuesOf(argv, '-netdev'), ['hubport,id=net0,hubid=0']);
  const anonymous = machineArgv('q', specOf(), 2e6);
  assert.deepEqual(valuesOf(anonymous, '-object'), ['memory-backend-ram,id=memory,size=512M']);
  // Its name and size are in the state.
  assert.deepEqual(valuesOf(anonymous, '-M'), valuesOf(argv, '-M'));
  for (const each of [argv, anonymous]) assert.equal(memoryBytesOf(each), 512 * 1024 ** 2);
  assert.equal(memoryBytesOf(['q', '-m', '512M']), undefined);
});

test('any name and path comes back out of the option strings as it went in', () => {
  const odd = fc.string({ unit: fc.constantFrom('a', ',', '=', ' ', '"', '\\', '\n', 'é', ':', "'", '-') });
  fc.assert(
    fc.property(odd, (text) => {
      const argv = machineArgv(
        'q',
        specOf({
          name: text,
          memory: { kind: 'file', path: `/m/${text}` },
          socketDir: `/run/${text}x`,
          consoleLogPath: `/c/${text}`,
          disks: [{ id: 'root', path: `/d/${text}`, format: 'raw', readOnly: false }],
        }),
        2e6,
      );
      const [qmp, console_, agent] = valuesOf(argv, '-chardev').map(parseOptions);
      assert.equal(parseOptions(valuesOf(argv, '-name')[0] ?? '')['guest'], text);
      assert.equal(qmp?.['path'], `/run/${text}x/qmp.sock`);
      assert.equal(console_?.['path'], `/c/${text}`);
      assert.equal(agent?.['path'], `/run/${text}x/agent.sock`);
      assert.equal(parseOptions(valuesOf(argv, '-object')[0] ?? '')['mem-path'], `/m/${text}`);
      assert.equal(memoryBytesOf(argv), 512 * 1024 ** 2);
      assert.equal(JSON.parse(valuesOf(argv, '-blockdev')[0] ?? '').file.filename, `/d/${text}`);
    }),
  );
  assert.equal(escapeOption('a,b,,c'), 'a,,b,,,,c');
});

test('an emulated microvm without the exact rate is refused: it would hang now and then', () => {
  assert.equal(needsTscRate(MICROVM), true);
  assert.equal(needsTscRate({ ...MICROVM, accelerator: 'kvm' }), false);
  assert.equal(needsTscRate({ ...MICROVM, machine: 'q35' }), false);
  assert.throws(() => machineArgv('q', specOf(), undefined), { code: 'unsupported' });
});

test('a platform of another driver or version is refused', () => {
  for (const wrong of [{ machine: 'pc' }, { machine: 'constructor' }, { transport: 'pci' as const }]) {
    assert.throws(() => machineArgv('q', specOf({ platform: { ...MICROVM, ...wrong } }), 2e6), {
      code: 'unsupported',
    });
  }
});

test('what only a mistake of ours can pass is an assertion', () => {
  const user = {
    kind: 'user',
    outbound: true,
    mac: '52:54:00:00:00:01',
    guestIp: '10.0.0.2',
    gatewayIp: '10.0.0.1',
  } as const;
  const mistakes: readonly Partial<MachineSpec>[] = [
    { vcpus: 0 },
    { memoryMib: 0.5 },
    { kernelPath: 'vmlinux' },
    { memory: { kind: 'file', path: 'memory' } },
    { disks: [{ id: 'A,b', path: '/d', format: 'raw', readOnly: false }] },
    { disks: [{ id: 'root', path: 'd', format: 'raw', readOnly: false }] },
    {
      disks: Array.from(
        { length: 7 },
        () => ({ id: 'd', path: '/d', format: 'raw', readOnly: true }) as const,
      ),
    },
    { network: { ...user, dnsIp: '10.0.1.3' } },
    { network: { ...user, dnsIp: '10.0.0.1' } },
    { network: { ...user, dnsIp: '10.0.0.3,x' } },
    { network: { ...user, dnsIp: '10.0.0.3', mac: '52:54:00:00:00:01,romfile=x' } },
  ];
  for (const mistake of mistakes) {
    assert.throws(
      () => machineArgv('q', specOf(mistake), 2e6),
      { name: 'AssertionError' },
      JSON.stringify(mistake),
    );
  }
});
