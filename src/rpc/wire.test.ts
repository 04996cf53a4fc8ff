import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BangerError, ERROR_CODES, type ErrorCode } from '../core/errors.ts';
import { fromWireError, toWireError } from './wire.ts';

for (const code of Object.keys(ERROR_CODES) as ErrorCode[]) {
  test(`an error with code ${code} comes out as it went in`, () => {
    const error = fromWireError(toWireError(new BangerError(code, 'text', { hint: 'hint' }), 'id'));
    assert.deepEqual(
      [error.code, error.message, error.hint, error.operationId],
      [code, 'text', 'hint', 'id'],
    );
  });
}

test("an error's own operation id is not replaced by the request's", () => {
  const wire = toWireError(new BangerError('timeout', 'text', { operationId: 'own' }), 'other');
  assert.equal(wire.data?.operationId, 'own');
});

test('without data the code is found by its number', () => {
  assert.equal(fromWireError({ code: 4004, message: 'x' }).code, 'not_found');
  assert.equal(fromWireError({ code: -32601, message: 'x' }).code, 'internal');
});

test('whatever a peer sends as an error becomes a BangerError with a message', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const error = fromWireError(value);
      assert.ok(error instanceof BangerError);
      assert.ok(typeof error.message === 'string');
      assert.ok(error.hint === undefined || typeof error.hint === 'string');
    }),
  );
});
