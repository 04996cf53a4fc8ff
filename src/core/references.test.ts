import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from './errors.ts';
import { resolveReference } from './references.ts';

const dev = { id: 'aaaa0000000000000000000000000001', name: 'dev' };
const devBox = { id: 'aabb0000000000000000000000000002', name: 'dev-box' };
const web = { id: 'cafe0000000000000000000000000003', name: 'web' };
const aa = { id: 'ffff0000000000000000000000000004', name: 'aa' };
const all = [dev, devBox, web, aa];

test('full id, exact name, beginning of an id, beginning of a name', () => {
  assert.equal(resolveReference(web.id, all), web);
  assert.equal(resolveReference('web', all), web);
  assert.equal(resolveReference('cafe', all), web);
  assert.equal(resolveReference('w', all), web);
  assert.equal(resolveReference('aaaa', all), dev);
});

test('an exact name wins over names and ids that begin with it', () => {
  assert.equal(resolveReference('dev', all), dev);
  assert.equal(resolveReference('aa', all), aa);
});

test('ambiguous: an error that lists the candidates', () => {
  assert.throws(
    () => resolveReference('de', all),
    (error) =>
      error instanceof BangerError &&
      error.code === 'bad_request' &&
      error.message === '"de" could be dev (aaaa00000000) or dev-box (aabb00000000)',
  );
  const many = Array.from({ length: 9 }, (_, i) => ({ id: `${i}`.padEnd(32, '0'), name: `vm-${i}` }));
  assert.throws(() => resolveReference('vm', many), /vm-4 \(400000000000\) or 4 more$/);
});

test('not found: near names as the hint', () => {
  const hintOf = (reference: string): string | undefined => {
    try {
      resolveReference(reference, all);
    } catch (error) {
      assert.ok(error instanceof BangerError && error.code === 'not_found');
      return error.hint;
    }
    return assert.fail('was found');
  };
  assert.equal(hintOf('dvv-box'), 'did you mean dev-box?');
  assert.equal(hintOf('box'), 'did you mean dev-box?');
  assert.equal(hintOf('something-else'), 'banger vm list shows all');
  assert.match(hintOf('') ?? '', /banger vm list|did you mean/);
});

test('whatever is asked for, the answer is one that it names, or a BangerError', () => {
  const vm = fc.record({
    id: fc.string({ unit: fc.constantFrom(...'ab0'), minLength: 4, maxLength: 4 }),
    name: fc.string({ unit: fc.constantFrom(...'ab-'), minLength: 1, maxLength: 4 }),
  });
  fc.assert(
    fc.property(
      fc.uniqueArray(vm, { maxLength: 8, selector: (v) => v.id }),
      fc.string({ maxLength: 5 }),
      (vms, reference) => {
        const matching = vms.filter((v) => v.id.startsWith(reference) || v.name.startsWith(reference));
        try {
          const found = resolveReference(reference, vms);
          assert.ok(matching.includes(found));
          const exact = found.id === reference || found.name === reference;
          assert.ok(exact || matching.length === 1);
        } catch (error) {
          assert.ok(error instanceof BangerError, String(error));
          assert.equal(error.code === 'not_found', matching.length === 0 || reference === '');
          assert.ok(!vms.some((v) => v.id === reference || v.name === reference));
        }
      },
    ),
  );
});
