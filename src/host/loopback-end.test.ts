import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_CONFIG } from './config.ts';
import { parseLoopbackEnd } from './loopback-end.ts';

test('what is the default, and what documentation and tests use, is accepted', () => {
  assert.deepEqual(parseLoopbackEnd('127.0.0.1:42069'), DEFAULT_CONFIG.dnsListen);
  assert.deepEqual(parseLoopbackEnd('127.0.0.1:53'), { host: '127.0.0.1', port: 53 });
  assert.deepEqual(parseLoopbackEnd('127.0.0.54:5353'), { host: '127.0.0.54', port: 5353 });
  assert.deepEqual(parseLoopbackEnd('[::1]:42069'), { host: '::1', port: 42_069 });
});

test('what others could reach, and what is no address with a port, is refused', () => {
  const refused = ['0.0.0.0:53', '192.168.1.1:53', '[::]:53', '[2001:db8::1]:53', '::1:53', '[127.0.0.1]:53'];
  for (const text of [
    ...refused,
    '127.0.0.1',
    '127.0.0.1:0',
    '127.0.0.1:65536',
    'localhost:53',
    '',
    '127.1:53',
  ])
    assert.throws(() => parseLoopbackEnd(text), { code: 'bad_request' }, text);
});
