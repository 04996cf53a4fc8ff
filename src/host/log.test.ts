import assert from 'node:assert/strict';
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { BangerError } from '../core/errors.ts';
import { createLogger, rotateLog } from './log.ts';

let dir = '';
let file = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'log-'));
  file = join(dir, 'bangerd.log');
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

function lines(): Record<string, unknown>[] {
  return readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test('JSON lines with level, time and the operation, written before the call returns', () => {
  const log = createLogger({ level: 'info', file });
  log.debug({}, 'unseen');
  const child = log.child({ operationId: 'op1' });
  child.info({ vm: 'dev' }, 'started');
  child.error({ err: new BangerError('vmm_failed', 'no luck') }, 'failed');
  const [first, second] = lines();
  assert.equal(first?.['level'], 'info');
  assert.equal(first?.['msg'], 'started');
  assert.equal(first?.['vm'], 'dev');
  assert.equal(first?.['operationId'], 'op1');
  assert.match(String(first?.['time']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  const err = second?.['err'] as Record<string, unknown> | undefined;
  assert.equal(err?.['message'], 'no luck');
  assert.equal(err?.['code'], 'vmm_failed');
  assert.equal(lines().length, 2);
  assert.equal(statSync(file).mode & 0o777, 0o600);
});

test('text with newlines and control characters stays one line', () => {
  createLogger({ level: 'info', file }).info({ text: 'a\nb\u001b[31m' }, 'x\ny');
  assert.equal(lines().length, 1);
  assert.doesNotMatch(readFileSync(file, 'utf8').trimEnd(), /[\n\u001b]/);
});

test('a log beyond its limit becomes <file>.1 at start; who holds it open goes on in the same file', () => {
  writeFileSync(file, 'old\n'.repeat(100));
  const stderr = openSync(file, 'a');
  const log = createLogger({ level: 'info', file, maxBytes: 200 });
  log.info({}, 'new');
  writeSync(stderr, '{"msg":"from stderr"}\n');
  closeSync(stderr);
  assert.equal(readFileSync(`${file}.1`, 'utf8'), 'old\n'.repeat(100));
  assert.equal(statSync(`${file}.1`).mode & 0o777, 0o600);
  assert.deepEqual(
    lines().map((line) => line['msg']),
    ['new', 'from stderr'],
  );
});

test('one previous log is kept, and a small one is not rotated', () => {
  assert.equal(rotateLog(file), false);
  for (const text of ['first', 'second']) {
    appendFileSync(file, text);
    assert.equal(rotateLog(file, 6), text === 'second');
  }
  assert.equal(existsSync(`${file}.2`), false);
  assert.equal(readFileSync(`${file}.1`, 'utf8'), 'firstsecond');
});
