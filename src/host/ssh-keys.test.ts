import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { BangerError, type ErrorCode } from '../core/errors.ts';
import { createRunner } from './runner.ts';
import { keepPublicFile, makeSshKey, readSshKey } from './ssh-keys.ts';

const runner = createRunner();
const { signal } = new AbortController();
let dir = '';
let file = '';

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'keys-'));
  file = join(dir, 'id_ed25519');
});
afterEach(() => rmSync(dir, { recursive: true }));

async function refused(code: ErrorCode): Promise<BangerError> {
  try {
    await readSshKey(file, runner, signal);
  } catch (error) {
    assert.ok(error instanceof BangerError);
    assert.equal(error.code, code);
    return error;
  }
  assert.fail('it was taken');
}

function keygen(...args: readonly string[]): string {
  return execFileSync('ssh-keygen', ['-q', ...args], { encoding: 'utf8' });
}

test('a key is made whole, closed to others, and nothing else is left', async () => {
  await makeSshKey(file, 'banger', runner, signal);
  assert.deepEqual(readdirSync(dir), ['id_ed25519']);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const { publicKey } = await readSshKey(file, runner, signal);
  assert.equal(keygen('-y', '-f', file), `${publicKey} banger\n`);
});

test('one that is there is never replaced, also when two are made at once', async () => {
  await Promise.all([1, 2, 3].map(() => makeSshKey(file, 'banger', runner, signal)));
  const first = readFileSync(file);
  await makeSshKey(file, 'banger', runner, signal);
  assert.deepEqual(readFileSync(file), first);
  assert.deepEqual(readdirSync(dir), ['id_ed25519']);
});

test('the public file is derived, and mended', async () => {
  await makeSshKey(file, 'banger', runner, signal);
  const key = await readSshKey(file, runner, signal);
  writeFileSync(`${file}.pub`, 'ssh-ed25519 AAAAother\n');
  await keepPublicFile(key, 'banger');
  assert.equal(readFileSync(`${file}.pub`, 'utf8'), `${key.publicKey} banger\n`);
  assert.equal((await readSshKey(file, runner, signal)).publicKey, key.publicKey);
});

test('a key that others can read is refused, with the command that closes it', async () => {
  await makeSshKey(file, 'banger', runner, signal);
  chmodSync(file, 0o640);
  assert.equal((await refused('permission')).hint, `chmod 600 ${file}`);
});

test('what is no key, or half of one, is refused, and stays', async () => {
  assert.match((await refused('not_found')).hint ?? '', /ssh-keygen/);
  await makeSshKey(file, 'banger', runner, signal);
  const whole = readFileSync(file);
  for (const damaged of ['', 'not a key\n', whole.subarray(0, 200)]) {
    writeFileSync(file, damaged);
    assert.match((await refused('verify_failed')).hint ?? '', /^mv /);
    assert.ok(existsSync(file));
  }
});

test('a key with a passphrase is the user’s agent’s to use: its public file says what it is', async () => {
  keygen('-t', 'ed25519', '-N', 'secret', '-f', file);
  const line = readFileSync(`${file}.pub`, 'utf8');
  assert.ok(line.startsWith((await readSshKey(file, runner, signal)).publicKey));
  rmSync(`${file}.pub`);
  await refused('verify_failed');
});

test('without ssh-keygen it says what to install', async () => {
  const none = { run: () => Promise.reject(new BangerError('dependency_missing', 'none')) };
  await assert.rejects(makeSshKey(file, 'banger', none, signal), {
    code: 'dependency_missing',
    hint: /openssh-client/,
  });
  assert.deepEqual(readdirSync(dir), []);
});
