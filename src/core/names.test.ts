import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from './errors.ts';
import { assertImageName, assertVmName, isId, shortId } from './names.ts';

const refused = (check: (name: string) => void, name: string): string => {
  try {
    check(name);
  } catch (error) {
    assert.ok(error instanceof BangerError);
    assert.equal(error.code, 'bad_request');
    assert.ok(error.hint);
    return error.message;
  }
  return assert.fail(`${JSON.stringify(name)} was accepted`);
};

test('VM names: DNS labels pass, anything else is refused with its reason', () => {
  for (const name of ['a', '7', 'dev', 'my-vm-2', 'a'.repeat(63), 'cafe', '0123456789', 'a--b']) {
    assertVmName(name);
  }
  const wrong: readonly (readonly [string, RegExp])[] = [
    ['', /is empty/],
    ['a'.repeat(64), /64 characters; the limit is 63/],
    ['Dev', /capital letters/],
    ['-a', /begins with a hyphen/],
    ['a-', /ends with a hyphen/],
    ['a.b', /contains "\."/],
    ['a/../b', /contains "\.?\/?/],
    ['a b', /contains " "/],
    ['a\n', /contains "\\n"/],
    ['é', /contains "é"/],
    ['localhost', /is reserved/],
    ['0123456789ab', /looks like a VM id/],
    ['0123456789abcdef0123456789abcdef', /looks like a VM id/],
  ];
  for (const [name, reason] of wrong) assert.match(refused(assertVmName, name), reason, name);
});

test('an accepted VM name is a DNS label and nothing in it needs quoting anywhere', () => {
  const nearNames = fc.string({ unit: fc.constantFrom(...'abz019-.AZ_/ \n\u0000é😀'), maxLength: 70 });
  fc.assert(
    fc.property(fc.oneof(nearNames, fc.string({ maxLength: 70 })), (name) => {
      const isLabel = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name) && !name.includes('\n');
      if (isLabel && name !== 'localhost' && !/^([0-9a-f]{12}|[0-9a-f]{32})$/.test(name)) assertVmName(name);
      else refused(assertVmName, name);
    }),
    { numRuns: 2000 },
  );
});

test('messages about hostile names carry no control characters', () => {
  for (const name of ['\u001b[31mred', 'a\u0007', 'a\u202eb', 'a\u009b', 'x'.repeat(100_000)]) {
    const message = refused(assertVmName, name);
    assert.doesNotMatch(message, /[\u0000-\u001f\u007f-\u009f\u2028-\u202e]/);
    assert.ok(message.length < 500);
  }
});

test('image names: one path component, lower case', () => {
  for (const name of ['debian-bookworm', 'a', 'node_20.1', '7zip']) assertImageName(name);
  const wrong = ['', '.', '..', '.a', 'a.', 'a..b', 'a/b', '-a', 'A', 'a b', 'a\0', 'é', 'a'.repeat(64)];
  for (const name of wrong) refused(assertImageName, name);
  assert.match(
    refused((name) => assertImageName(name, 'kernel'), 'X'),
    /the kernel name/,
  );
});

test('ids', () => {
  const id = '0123456789abcdef0123456789abcdef';
  assert.ok(isId(id));
  assert.equal(shortId(id), '0123456789ab');
  for (const text of ['', id.toUpperCase(), `${id}0`, id.slice(1), `${id}\n`]) assert.ok(!isId(text), text);
});
