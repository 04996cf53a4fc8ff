import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from './errors.ts';
import type { PublishedPort } from './model/vm.ts';
import {
  checkPublishedPorts,
  formatHostEnd,
  formatPublishedPort,
  MAX_PUBLISHED_PORTS,
  parsePublishedPort,
} from './published-port.ts';

test('the forms of the help', () => {
  const at = (hostAddress: string, hostPort: number, guestPort: number): PublishedPort => ({
    hostAddress,
    hostPort,
    guestPort,
  });
  assert.deepEqual(parsePublishedPort('8080'), at('127.0.0.1', 8080, 8080));
  assert.deepEqual(parsePublishedPort('8080:80'), at('127.0.0.1', 8080, 80));
  assert.deepEqual(parsePublishedPort('0:80'), at('127.0.0.1', 0, 80));
  assert.deepEqual(parsePublishedPort('0.0.0.0:8080:80'), at('0.0.0.0', 8080, 80));
  assert.deepEqual(parsePublishedPort('[::1]:8080:80'), at('::1', 8080, 80));
  assert.deepEqual(parsePublishedPort('[::FFFF:1.2.3.4]:1:65535'), at('::ffff:1.2.3.4', 1, 65535));
});

test('what is none of them is refused, with what would be', () => {
  for (const text of [
    ...[
      '',
      '0',
      ':',
      ':80',
      '80:',
      '8080:0',
      '65536',
      '8080:65536',
      '65536:80',
      '123456',
      '-1:80',
      '8080:80/tcp',
      ' 80',
    ],
    ...[
      'localhost:8080:80',
      '127.0.0.1:80',
      ':8080:80',
      '[127.0.0.1]:8080:80',
      '::1:8080:80',
      '[::1]:80',
      '[]:1:2',
    ],
    ...[
      '[::1:8080:80',
      '[::1%lo]:1:2',
      '127.1:8080:80',
      '8080:80\n',
      '1e3:80',
      '0x50:80',
      '１:2',
      '[::1]8080:80',
    ],
  ]) {
    assert.throws(() => parsePublishedPort(text), { code: 'bad_request' }, JSON.stringify(text));
  }
  assert.throws(() => parsePublishedPort('nonsense'), { hint: /\[ADDRESS:\]HOSTPORT:GUESTPORT/ });
});

const anyPort: fc.Arbitrary<PublishedPort> = fc.record({
  hostAddress: fc.oneof(
    fc.ipV4(),
    fc.ipV6().map((text) => text.toLowerCase()),
  ),
  hostPort: fc.integer({ min: 0, max: 65535 }),
  guestPort: fc.integer({ min: 1, max: 65535 }),
});

test('what is written is read back', () => {
  fc.assert(
    fc.property(anyPort, (port) =>
      assert.deepEqual(parsePublishedPort(formatPublishedPort(port)), { ...port }),
    ),
  );
});

test('any text is a sound port or a refusal', () => {
  const part = fc.constantFrom(':', '[', ']', '::1', '0', '80', '65535', '70000', '127.0.0.1', 'x', '-', '.');
  const text = fc.oneof(
    fc.string(),
    fc.array(part, { maxLength: 8 }).map((parts) => parts.join('')),
  );
  fc.assert(
    fc.property(text, (written) => {
      try {
        checkPublishedPorts([parsePublishedPort(written)]);
      } catch (error) {
        assert(error instanceof BangerError && error.code === 'bad_request');
      }
    }),
    { numRuns: 2000 },
  );
});

test('a list has at most 64, none of them twice, and nothing that could not have been written', () => {
  const port = { hostAddress: '127.0.0.1', hostPort: 1, guestPort: 1 };
  const many = (count: number): PublishedPort[] =>
    Array.from({ length: count }, (_, index) => ({ ...port, hostPort: index + 1 }));
  assert.equal(checkPublishedPorts(many(MAX_PUBLISHED_PORTS)).length, 64);
  assert.throws(() => checkPublishedPorts(many(65)), { code: 'limit_exceeded' });
  assert.throws(
    () => checkPublishedPorts([port, { ...port, guestPort: 2 }]),
    /127\.0\.0\.1:1 is published twice/,
  );
  const free = { ...port, hostPort: 0 };
  assert.equal(checkPublishedPorts([free, free]).length, 2);
  assert.equal(checkPublishedPorts([port, { ...port, hostAddress: '::1' }]).length, 2);
  for (const bad of [
    { hostAddress: 'localhost' },
    { hostPort: 1.5 },
    { hostPort: -1 },
    { guestPort: 0 },
    { guestPort: 65536 },
  ]) {
    assert.throws(() => checkPublishedPorts([{ ...port, ...bad }]), { code: 'bad_request' });
  }
  assert.equal(formatHostEnd({ hostAddress: '::', hostPort: 9 }), '[::]:9');
});
