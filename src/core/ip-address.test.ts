import assert from 'node:assert/strict';
import { isIPv4, isIPv6 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { isIpv4, isIpv6 } from './ip-address.ts';

test('addresses are those that Node takes for ones', () => {
  for (const text of [
    '',
    '1.2.3.4',
    '01.2.3.4',
    '1.2.3',
    '256.1.1.1',
    '1.2.3.4 ',
    '0.0.0.0',
    '255.255.255.255',
  ]) {
    assert.equal(isIpv4(text), isIPv4(text), text);
  }
  for (const text of [
    '::',
    '::1',
    '1::',
    ':::',
    '1::2::3',
    ':1',
    '1:',
    '1:2:3:4:5:6:7:8',
    '1:2:3:4:5:6:7::',
    '::1.2.3.4',
  ]) {
    assert.equal(isIpv6(text), isIPv6(text), text);
  }
  assert.equal(isIpv6('fe80::1%eth0'), false);
});

test('so do random ones, whole and damaged', () => {
  const part = fc.constantFrom(
    ':',
    '::',
    '.',
    '0',
    '1',
    'ff',
    'FFFF',
    '12345',
    'g',
    '255',
    '256',
    '1.2.3.4',
    ' ',
  );
  const damaged = fc.array(part, { maxLength: 18 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), damaged), (text) => {
      assert.equal(isIpv4(text), isIPv4(text), text);
      assert.equal(isIpv6(text), isIPv6(text), text);
    }),
    { numRuns: 5000 },
  );
});
