import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { test } from 'node:test';
import { BangerError, errorText } from './errors.ts';
import { systemErrorText, systemReason } from './system-error.ts';

function thrown(work: () => void): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  return assert.fail('nothing was thrown');
}

test('of the file system: the words, and what it is about', () => {
  const missing = thrown(() => openSync('/nonexistent/x', 'r'));
  assert.equal(systemReason(missing), 'no such file or directory');
  assert.equal(errorText(missing), '/nonexistent/x: no such file or directory');
  const dir = mkdtempSync('/tmp/banger-');
  try {
    assert.equal(systemReason(thrown(() => writeFileSync(dir, ''))), 'is a directory');
    writeFileSync(`${dir}/x`, '');
    assert.equal(systemErrorText(thrown(() => rmdirSync(dir))), `${dir}: directory not empty`);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('of sockets and programs, whose messages have no words', async () => {
  const [refused] = (await once(createConnection({ port: 1, host: '127.0.0.1' }), 'error').catch(
    (error: unknown) => [error],
  )) as [unknown];
  assert.equal(systemErrorText(refused), '127.0.0.1:1: connection refused');
  const [several] = (await once(createConnection({ port: 1, host: 'localhost' }), 'error').catch(
    (error: unknown) => [error],
  )) as [unknown];
  assert.match(String(systemErrorText(several)), /^(\S+: )?connection refused$/);
  const [none] = (await once(spawn('/nonexistent/x'), 'error').catch((error: unknown) => [error])) as [
    unknown,
  ];
  assert.equal(errorText(none), '/nonexistent/x: no such file or directory');
});

test('a code without an entry has the words of its message, else itself', () => {
  const unusual = (message: string) =>
    Object.assign(new Error(message), { code: 'EDOM', syscall: 'read', errno: -33 });
  assert.equal(systemReason(unusual('EDOM: out of its domain, read')), 'out of its domain');
  assert.equal(systemReason(unusual('read EDOM')), 'EDOM');
});

test('nothing else is an error of the system', () => {
  for (const error of [
    new BangerError('io_error', 'x'),
    Object.assign(new TypeError('x'), { code: 'ERR_INVALID_ARG_TYPE' }),
    Object.assign(new Error('x'), { code: 'CERT_HAS_EXPIRED' }),
    new Error('ENOENT: x'),
    'ENOENT',
    null,
  ]) {
    assert.equal(systemErrorText(error), undefined);
  }
});
