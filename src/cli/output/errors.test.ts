import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BangerError } from '../../core/errors.ts';
import { failureStatus, reportError } from './errors.ts';

function report(
  error: unknown,
  options: { isTTY?: boolean; json?: boolean; env?: Record<string, string> } = {},
) {
  let written = '';
  const stderr = {
    write: (text: string) => {
      written += text;
    },
    isTTY: options.isTTY ?? false,
    columns: 80,
  };
  reportError({ stderr, env: options.env ?? {} }, error, options.json ?? false);
  return written;
}

const failure = new BangerError('not_found', 'no VM "x"', { hint: 'banger vm list', operationId: '12ab' });

test('message, hint, operation id; the code is not shown', () => {
  assert.equal(report(failure), 'banger: no VM "x"\nbanger vm list\n(operation 12ab)\n');
  assert.equal(report(new BangerError('io_error', 'short')), 'banger: short\n');
});

test('colour on a terminal only, and never with NO_COLOR or on a dumb one', () => {
  assert.match(
    report(failure, { isTTY: true }),
    /\u001b\[31mbanger:\u001b\[39m .*\n.*\n\u001b\[2m\(operation 12ab\)/,
  );
  assert.doesNotMatch(report(failure, { isTTY: true, env: { NO_COLOR: '1' } }), /\u001b/);
  assert.doesNotMatch(report(failure, { isTTY: true, env: { TERM: 'dumb' } }), /\u001b/);
  // https://no-color.org: "when present and not an empty string"
  assert.match(report(failure, { isTTY: true, env: { NO_COLOR: '' } }), /\u001b/);
});

test('what others wrote steers no terminal', () => {
  const hostile = new BangerError('io_error', 'a\u001b]0;x\u0007\tb\nc\u009b2J', { hint: '\rd' });
  assert.equal(report(hostile, { isTTY: true, env: { NO_COLOR: '1' } }), 'banger: a?]0;x?\tb\nc?2J\n?d\n');
});

test('as JSON: one line', () => {
  const text = report(failure, { json: true, isTTY: true });
  assert.equal(text.split('\n').length, 2);
  assert.deepEqual(JSON.parse(text), {
    error: { code: 'not_found', message: 'no VM "x"', hint: 'banger vm list', operationId: '12ab' },
  });
});

test('statuses: usage and cancelling keep theirs, others give way to the command’s own', () => {
  assert.equal(failureStatus(failure, undefined), 1);
  assert.equal(failureStatus(failure, 125), 125);
  assert.equal(failureStatus(new Error('bug'), 125), 125);
  assert.equal(failureStatus(new BangerError('usage', 'x'), 125), 2);
  assert.equal(failureStatus(new BangerError('cancelled', 'x'), 125), 130);
});
