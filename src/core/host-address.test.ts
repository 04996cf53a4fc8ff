import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hostAddressOf, hostPrefixOf, instanceAddressOf, reverseZoneOf } from './host-address.ts';
import { isIpv4 } from './ip-address.ts';

const tag = fc.integer({ min: 0, max: 0xffff_ffff });

test('every instance has a network of its own within the loopback, away from what others use', () => {
  fc.assert(
    fc.property(tag, (number) => {
      const prefix = hostPrefixOf(number);
      assert.ok(isIpv4(`${prefix}.1`), prefix);
      assert.match(prefix, /^127\.\d+\.\d+$/);
      assert.doesNotMatch(prefix, /^127\.(0|255)\./);
    }),
  );
  const all = new Set(Array.from({ length: 254 * 256 }, (_, number) => hostPrefixOf(number)));
  assert.equal(all.size, 254 * 256);
});

test('no two VMs of an instance have the same address, and none has that of the instance', () => {
  const prefix = hostPrefixOf(0xdead_beef);
  const guests = Array.from({ length: 253 }, (_, index) => `172.16.0.${index + 2}`);
  const addresses = guests.map((guestIp) => hostAddressOf(prefix, guestIp));
  assert.equal(new Set(addresses).size, 253);
  assert.ok(addresses.every((address) => address !== null && isIpv4(address)));
  assert.ok(!addresses.includes(instanceAddressOf(prefix)));
});

test('a VM without a usable guest address has none', () => {
  for (const guestIp of ['', 'x', '172.16.0.0', '172.16.0.1', '172.16.0.255', '172.16.0.2.3'])
    assert.equal(hostAddressOf('127.1.2', guestIp), null);
});

test('the zone of the addresses', () => {
  assert.equal(reverseZoneOf('127.107.251'), '251.107.127.in-addr.arpa');
});
