import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeConfigure, encodeConnect, encodeExec, encodeMount, encodePowerOff } from './payloads.ts';

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function str(text: string): Buffer {
  return Buffer.concat([u32(Buffer.byteLength(text)), Buffer.from(text)]);
}

test('EXEC', () => {
  const bytes = encodeExec({
    argv: ['sh', '-c', 'é'],
    env: { A: 'b=c' },
    cwd: '/tmp',
    user: '1:2',
    tty: true,
    stdin: true,
    rows: 24,
    columns: 300,
  });
  const expected = Buffer.concat([
    Buffer.from([1]),
    u32(3),
    Buffer.from([24, 0, 44, 1]),
    str('1:2'),
    str('/tmp'),
    u32(3),
    str('sh'),
    str('-c'),
    str('é'),
    u32(1),
    str('A=b=c'),
  ]);
  assert.deepEqual(Buffer.from(bytes), expected);
});

test('EXEC of the login shell, everything left out', () => {
  const expected = Buffer.concat([Buffer.from([1]), u32(0), u32(0), str(''), str(''), u32(0), u32(0)]);
  assert.deepEqual(Buffer.from(encodeExec({ argv: [] })), expected);
});

test('CONFIGURE', () => {
  const bytes = encodeConfigure({
    hostname: 'dev',
    files: [{ path: '/etc/x', mode: 0o600, uid: 1, gid: 2, content: Buffer.from('a\0b') }],
    clockNs: 0x0102030405060708n,
    entropy: Buffer.from('random'),
    address: '10.0.2.15/24',
    gateway: '',
    handOverInit: true,
    isProvisional: false,
    mac: '52:54:00:12:34:56',
    bootId: 'b',
    machineId: 'm',
    rootDiskBytes: 2 ** 33,
  });
  const expected = Buffer.concat([
    Buffer.from([2]),
    str('dev'),
    u32(1),
    str('/etc/x'),
    u32(0o600),
    u32(1),
    u32(2),
    str('a\0b'),
    Buffer.from([8, 7, 6, 5, 4, 3, 2, 1]),
    str('random'),
    str('10.0.2.15/24'),
    str(''),
    u32(1),
    str('52:54:00:12:34:56'),
    str('b'),
    str('m'),
    u32(0),
    u32(2),
  ]);
  assert.deepEqual(Buffer.from(bytes), expected);
});

test('POWEROFF and MOUNT', () => {
  assert.deepEqual(Buffer.from(encodePowerOff(1500)), Buffer.concat([Buffer.from([8]), u32(1500)]));
  const mount = { device: '/dev/vdb', type: 'squashfs', target: '/r', readOnly: true, label: 'l' } as const;
  const expected = [Buffer.from([9]), str('/dev/vdb'), str('squashfs'), str('/r'), u32(1), str('l')];
  assert.deepEqual(Buffer.from(encodeMount(mount)), Buffer.concat(expected));
});

test('CONNECT', () => {
  const loopback = Buffer.concat([Buffer.from([10]), str(''), Buffer.from([0x90, 0x1f])]);
  assert.deepEqual(Buffer.from(encodeConnect({ port: 8080 })), loopback);
  const other = Buffer.concat([Buffer.from([10]), str('fe80::1'), Buffer.from([0xff, 0xff])]);
  assert.deepEqual(Buffer.from(encodeConnect({ address: 'fe80::1', port: 65535 })), other);
});

test('what cannot be passed is refused with its place', () => {
  const badRequest = (message: RegExp) => ({ code: 'bad_request', message });
  assert.throws(() => encodeExec({ argv: ['a', 'b\0'] }), badRequest(/argument 1 contains a NUL/));
  assert.throws(() => encodeExec({ argv: [], env: { 'A=B': '' } }), badRequest(/"A=B" cannot be the name/));
  assert.throws(() => encodeExec({ argv: [], env: { '': '' } }), badRequest(/cannot be the name/));
  assert.throws(() => encodeExec({ argv: [], cwd: '\0' }), badRequest(/working directory/));
  assert.throws(() => encodeConnect({ address: '::\0', port: 1 }), badRequest(/the address/));
  assert.throws(() => encodeExec({ argv: ['x'.repeat(2 ** 20)] }), { code: 'limit_exceeded' });
});
