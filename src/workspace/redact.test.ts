import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { redactRemoteUrl } from './redact.ts';

test('removes users, passwords, queries and fragments from URLs', () => {
  assert.equal(redactRemoteUrl('https://user:token@example.com/a.git'), 'https://example.com/a.git');
  assert.equal(redactRemoteUrl('https://token@example.com:8443/a.git'), 'https://example.com:8443/a.git');
  assert.equal(redactRemoteUrl('https://a@b:p@ss@example.com/a'), 'https://example.com/a');
  assert.equal(redactRemoteUrl('https://example.com/a.git?access_token=x#y'), 'https://example.com/a.git');
  assert.equal(redactRemoteUrl('HTTP://me:x@example.com'), 'HTTP://example.com');
  assert.equal(redactRemoteUrl('https://user:pa/ss@example.com/x'), undefined);
  assert.equal(redactRemoteUrl('https://u:p@[::1]:8443/x'), 'https://[::1]:8443/x');
  assert.equal(redactRemoteUrl('https://example.com/@scope/x'), 'https://example.com/@scope/x');
});

test('keeps the account of ssh, without its password', () => {
  assert.equal(redactRemoteUrl('ssh://git@example.com/a.git'), 'ssh://git@example.com/a.git');
  assert.equal(redactRemoteUrl('ssh://git:secret@example.com:22/a.git'), 'ssh://git@example.com:22/a.git');
  assert.equal(redactRemoteUrl('git@example.com:group/a.git'), 'git@example.com:group/a.git');
});

test('leaves local paths alone and drops what runs commands', () => {
  assert.equal(redactRemoteUrl('/srv/git/a@b.git'), '/srv/git/a@b.git');
  assert.equal(redactRemoteUrl('../a.git'), '../a.git');
  assert.equal(redactRemoteUrl('file:///srv/a.git'), 'file:///srv/a.git');
  assert.equal(redactRemoteUrl('hg::https://u:p@example.com/a'), 'hg::https://example.com/a');
  assert.equal(redactRemoteUrl('ext::sh -c true'), undefined);
  assert.equal(redactRemoteUrl('https://example.com/a\nb'), undefined);
  assert.equal(redactRemoteUrl(''), undefined);
});

test('no secret survives, whatever it is made of', () => {
  const protocol = fc.constantFrom('https', 'http', 'ftp', 'git', 'HTTPS');
  const secret = fc.stringMatching(/^SECRET[a-z0-9@:%!$&'()*+,;=._~-]*$/);
  fc.assert(
    fc.property(protocol, secret, secret, (name, user, password) => {
      const result = redactRemoteUrl(`${name}://${user}:${password}@example.com/path?q=${password}`);
      assert.equal(result, `${name}://example.com/path`);
    }),
  );
});
