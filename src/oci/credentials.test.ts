import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { RunOptions, RunResult } from '../host/runner.ts';
import { type CredentialLookup, dockerCredentials } from './credentials.ts';

const dir = mkdtempSync(join(tmpdir(), 'banger-credentials-'));
after(() => rmSync(dir, { recursive: true }));
const { signal } = new AbortController();
const base64 = (text: string): string => Buffer.from(text).toString('base64');

interface Asked {
  readonly argv: readonly string[];
  readonly input: unknown;
}

async function lookUp(
  config: unknown,
  registry: string,
  helperSays = '',
): Promise<CredentialLookup & { asked: readonly Asked[] }> {
  writeFileSync(join(dir, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config));
  const asked: Asked[] = [];
  const run = async (argv: readonly string[], options: RunOptions = {}): Promise<RunResult> => {
    asked.push({ argv, input: options.input });
    assert.ok((options.timeoutMs ?? Infinity) <= 60_000 && (options.maxOutputBytes ?? Infinity) <= 1 << 20);
    return { stdout: Buffer.from(helperSays), stderr: '', status: 0 };
  };
  return { ...(await dockerCredentials({ DOCKER_CONFIG: dir }, { run }).lookup(registry, signal)), asked };
}

test('where the file is', () => {
  const runner = { run: async () => assert.fail() };
  assert.equal(dockerCredentials({ HOME: '/home/u' }, runner).file, '/home/u/.docker/config.json');
  assert.equal(
    dockerCredentials({ HOME: '/home/u', DOCKER_CONFIG: '' }, runner).file,
    '/home/u/.docker/config.json',
  );
  assert.equal(dockerCredentials({ HOME: '/home/u', DOCKER_CONFIG: '/d' }, runner).file, '/d/config.json');
});

test('keys: the name, addresses of it, and the old name of Docker Hub', async () => {
  const auth = base64('u:p:with:colons');
  const credential = { kind: 'password', user: 'u', password: 'p:with:colons' };
  const found: [key: string, registry: string][] = [
    ['registry.example.com', 'registry.example.com'],
    ['https://registry.example.com', 'registry.example.com'],
    ['http://registry.example.com/v1/', 'registry.example.com'],
    ['registry.example.com:5000', 'registry.example.com:5000'],
    ['https://index.docker.io/v1/', 'docker.io'],
    ['docker.io', 'docker.io'],
    ['https://registry-1.docker.io', 'docker.io'],
  ];
  for (const [key, registry] of found) {
    assert.deepEqual((await lookUp({ auths: { [key]: { auth } } }, registry)).credential, credential, key);
  }
  const others: [key: string, registry: string][] = [
    ['registry.example.com', 'registry.example.com:5000'],
    ['example.com', 'registry.example.com'],
    ['registry.example.com.evil.example', 'registry.example.com'],
    ['evil.example/registry.example.com', 'registry.example.com'],
    ['constructor', 'registry.example.com'],
  ];
  for (const [key, registry] of others) {
    assert.equal((await lookUp({ auths: { [key]: { auth } } }, registry)).credential, undefined, key);
  }
  assert.equal((await lookUp({ auths: {} }, '__proto__')).credential, undefined);
});

test('what is no login', async () => {
  for (const entry of [
    {},
    null,
    'x',
    { auth: 7 },
    { auth: '' },
    { auth: base64('no colon') },
    { auth: base64(':password') },
    { auth: base64('user:line\nbreak') },
    { auth: base64(`u:${'p'.repeat(20_000)}`) },
  ]) {
    const answer = await lookUp({ auths: { 'registry.example.com': entry } }, 'registry.example.com');
    assert.equal(answer.credential, undefined, JSON.stringify(entry)?.slice(0, 80));
  }
  const entry = { auth: base64('u:p'), identitytoken: 'token' };
  const answer = await lookUp({ auths: { 'registry.example.com': entry } }, 'registry.example.com');
  assert.deepEqual(answer.credential, { kind: 'identity-token', token: 'token' });
});

test('a file that cannot be used is a problem, not an end', async () => {
  const secret = '{"auths": {"registry.example.com": {"auth": "c2VjcmV0OnNlY3JldA=="';
  for (const config of [secret, '[]', '7', ' '.repeat(1024 * 1024 + 1)]) {
    const { credential, problem } = await lookUp(config, 'registry.example.com');
    assert.equal(credential, undefined);
    assert.match(problem ?? '', /config\.json/);
    assert.ok(!problem?.includes('c2VjcmV0'));
  }
});

test('helpers: which one, and what they are asked', async () => {
  const says = JSON.stringify({ ServerURL: 'x', Username: 'u', Secret: 'p' });
  const one = await lookUp(
    { credHelpers: { 'registry.example.com': 'own' }, credsStore: 'all' },
    'registry.example.com',
    says,
  );
  assert.deepEqual(one.asked, [{ argv: ['docker-credential-own', 'get'], input: 'registry.example.com' }]);
  assert.deepEqual(one.credential, { kind: 'password', user: 'u', password: 'p' });
  const hub = await lookUp(
    { credsStore: 'all' },
    'docker.io',
    JSON.stringify({ Username: '<token>', Secret: 't' }),
  );
  assert.deepEqual(hub.asked, [
    { argv: ['docker-credential-all', 'get'], input: 'https://index.docker.io/v1/' },
  ]);
  assert.deepEqual(hub.credential, { kind: 'identity-token', token: 't' });
  for (const nonsense of [
    '',
    'x',
    '[]',
    '{}',
    '{"Username":"u"}',
    '{"Username":"u","Secret":""}',
    '{"Username":"a:b","Secret":"p"}',
  ]) {
    const answer = await lookUp({ credsStore: 'all' }, 'registry.example.com', nonsense);
    assert.equal(answer.credential, undefined);
    assert.match(answer.problem ?? '', /docker-credential-all gave no credentials/);
  }
  for (const name of ['a/b', '../x', '', 7, 'a b', '-x']) {
    assert.deepEqual((await lookUp({ credsStore: name }, 'registry.example.com', says)).asked, []);
  }
});
