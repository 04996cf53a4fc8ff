import assert from 'node:assert/strict';
import { test } from 'node:test';
import { someVm } from '../../../../test/helpers/store-records.ts';
import type { VmView } from '../../../api/results/vm.ts';
import { portEntries } from './port-entries.ts';

const port = (hostPort: number, guestPort: number, problem?: string) => ({
  ...{ hostAddress: '127.0.0.1', hostPort, guestPort },
  ...(problem === undefined ? {} : { problem }),
});
const base = someVm('image');
const vm: VmView = {
  ...base,
  hostAddress: '127.107.251.2',
  pid: 1,
  vmDir: '/vms/dev',
  guestIp: '172.16.0.2',
  spec: { ...base.spec, publish: [port(0, 80), port(8443, 443), port(53, 53), port(90, 90)] },
  runtime: { published: [port(40_001, 80), port(8443, 443), port(53, 53, 'taken'), port(90, 90)] },
};
const listener = (protocol: 'tcp' | 'udp', address: string, number: number) => ({
  ...{ protocol, address, port: number },
  ...{ pid: 1, process: 'server' },
});

test('listeners say where they appear by themselves, or why not, and what their link may be', () => {
  const forwarded = [{ port: 80 }, { port: 81, problem: 'taken' }, { port: 5432 }];
  const listening = [
    ...[listener('tcp', '0.0.0.0', 80), listener('tcp', '::', 80), listener('udp', '0.0.0.0', 80)],
    ...[81, 5432, 9999].map((number) => listener('tcp', '127.0.0.1', number)),
  ];
  const own = { ...vm, spec: { ...vm.spec, publish: [] }, runtime: { forwarded } };
  const entries = portEntries(own, listening);
  assert.deepEqual(
    entries.map((entry) => [entry.forwarded, entry.problem, entry.url]),
    [
      ['127.107.251.2:80', null, 'http://dev.vm/'],
      ['127.107.251.2:80', null, 'http://dev.vm/'],
      [null, null, null],
      [null, 'taken', null],
      ['127.107.251.2:5432', null, null],
      [null, null, null],
    ],
  );
});

test('listeners say where they are published; what is published and not served is listed, too', () => {
  const listening = [
    ...[listener('tcp', '0.0.0.0', 80), listener('tcp', '::', 80), listener('udp', '0.0.0.0', 80)],
    // Nobody reaches it from the guest's loopback.
    listener('tcp', '172.16.0.2', 443),
    listener('tcp', '127.0.0.1', 53),
  ];
  assert.deepEqual(
    portEntries(vm, listening).map(({ protocol, address, endpoint, published }) => [
      protocol,
      address,
      endpoint,
      published,
    ]),
    [
      ['tcp', '127.0.0.1', 'dev.vm:53', []],
      ['tcp', '0.0.0.0', 'dev.vm:80', ['127.0.0.1:40001']],
      ['tcp', '::', 'dev.vm:80', ['127.0.0.1:40001']],
      ['udp', '0.0.0.0', 'dev.vm:80', []],
      ['tcp', null, 'dev.vm:90', ['127.0.0.1:90']],
      ['tcp', '172.16.0.2', 'dev.vm:443', []],
      ['tcp', null, 'dev.vm:443', ['127.0.0.1:8443']],
    ],
  );
});

test('by port, and of one port by process', () => {
  const listening = (['nginx', null, 'apache'] as const).flatMap((process) =>
    [1000, 22].map((number) => ({ ...listener('tcp', '::', number), process })),
  );
  const own = { ...vm, spec: { ...vm.spec, publish: [] }, runtime: {} };
  assert.deepEqual(
    portEntries(own, listening).map(({ port, process }) => `${port} ${process}`),
    ['22 null', '22 apache', '22 nginx', '1000 null', '1000 apache', '1000 nginx'],
  );
});
