/** Logging in to the real registry: passwords, credential helpers, and tokens that it checks itself. */

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { BangerError } from '../../src/core/errors.ts';
import { createRunner } from '../../src/host/runner.ts';
import { type CredentialSource, dockerCredentials } from '../../src/oci/credentials.ts';
import { pullSnapshot, pushSnapshot } from '../../src/state/distribution.ts';
import { MIGRATIONS } from '../../src/store/migrations/list.ts';
import { smallState, snapshotOf } from '../helpers/state-fixture.ts';
import { makeCertificate } from './certificate.ts';
import { clientOf, NO_CREDENTIALS, passwordFor, Scratch } from './fixture.ts';
import { HTPASSWD, PASSWORD, RegistryProcess } from './registry-process.ts';
import { ISSUER, SERVICE, TokenServer } from './token-server.ts';

const migrations = MIGRATIONS;
const snapshot = snapshotOf(smallState());

/** Refused, with how to log in, and without the secret anywhere. */
function isRefused(secret: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof BangerError);
    assert.equal(error.code, 'permission');
    assert.match(error.hint ?? '', /docker login 127\.0\.0\.1:\d+/);
    const whole = `${error.message} ${error.hint} ${String(error.cause)} ${error.stack}`;
    assert.ok(!whole.includes(secret), whole);
    return true;
  };
}

test('a password: needed, wrong, right', async () => {
  await using registry = await RegistryProcess.start({ htpasswd: HTPASSWD });
  const push = async (credentials: CredentialSource): Promise<unknown> =>
    await pushSnapshot(clientOf(`${registry.host}/state`, { credentials }), snapshot, { migrations });
  await assert.rejects(push(NO_CREDENTIALS), isRefused(PASSWORD));
  await assert.rejects(push(passwordFor('alice', 'white rabbit')), isRefused('white rabbit'));
  await assert.rejects(push(passwordFor('bob', PASSWORD)), isRefused(PASSWORD));
  await push(passwordFor('alice', PASSWORD));
});

test('where a login is kept: config.json and credential helpers', async () => {
  await using registry = await RegistryProcess.start({ htpasswd: HTPASSWD });
  using scratch = new Scratch();
  mkdirSync(scratch.path('bin'));
  const helper = (name: string, body: string): void => {
    const path = scratch.path(`bin/docker-credential-${name}`);
    writeFileSync(path, `#!/bin/sh\n${body}\n`);
    chmodSync(path, 0o755);
  };
  const secret = JSON.stringify(PASSWORD);
  helper(
    'good',
    `read -r server || true
[ "$1" = get ] && [ "$server" = '${registry.host}' ] || exit 1
printf '%s' '{"ServerURL":"x","Username":"alice","Secret":${secret}}'`,
  );
  helper('empty', 'echo "credentials not found in native keychain"; exit 1');
  helper('angry', `echo '${PASSWORD}' >&2; echo '${PASSWORD}'; exit 3`);
  helper('endless', 'exec yes wonderland');
  const auth = Buffer.from(`alice:${PASSWORD}`).toString('base64');
  const auths = { [`https://${registry.host}/v2/`]: { auth } };
  const runner = createRunner();
  const path = `${scratch.path('bin')}:${process.env['PATH']}`;
  const push = async (config: unknown): Promise<unknown> => {
    writeFileSync(scratch.path('config.json'), JSON.stringify(config));
    const credentials = dockerCredentials(
      { DOCKER_CONFIG: scratch.dir },
      { run: async (argv, options) => await runner.run(argv, { ...options, env: { PATH: path } }) },
    );
    return await pushSnapshot(clientOf(`${registry.host}/state`, { credentials }), snapshot, { migrations });
  };
  for (const good of [
    { auths },
    { auths: { [registry.host]: { auth } } },
    { credsStore: 'good' },
    { credHelpers: { [registry.host]: 'good' }, credsStore: 'angry' },
    { credsStore: 'empty', auths },
    { credsStore: 'missing', auths },
  ]) {
    await push(good);
  }
  const refused: [config: unknown, message: RegExp][] = [
    [{}, /no login for it in .*config\.json/],
    [[], /config\.json is not an object/],
    [{ credsStore: 'empty' }, /no login for it/],
    [{ credsStore: 'angry' }, /docker-credential-angry gave no credentials/],
    [{ credsStore: 'endless' }, /docker-credential-endless gave no credentials/],
    [{ credsStore: 'missing' }, /docker-credential-missing is not installed/],
    [{ credsStore: '../../bin/sh' }, /the name of the credential helper is not valid/],
    [{ auths: { 'registry.example.com': { auth } } }, /no login for it/],
  ];
  for (const [config, message] of refused) {
    await assert.rejects(push(config), (error) => {
      assert.ok(isRefused(PASSWORD)(error));
      assert.match((error as Error).message, message);
      return true;
    });
  }
});

for (const member of ['token', 'access_token'] as const) {
  test(`tokens in "${member}": anybody may pull, a login may push`, async () => {
    using scratch = new Scratch();
    const certificate = await makeCertificate(scratch, ['localhost']);
    const identityToken = 'a long-lived token';
    await using tokens = new TokenServer({
      certificate,
      user: 'alice',
      password: PASSWORD,
      identityToken,
      member,
    });
    const realm = await tokens.start();
    await using registry = await RegistryProcess.start({
      token: { realm, service: SERVICE, issuer: ISSUER, rootcertbundle: certificate.certificatePath },
    });
    const repository = `${registry.host}/team/state`;
    const push = async (credentials: CredentialSource): Promise<{ digest: string }> =>
      await pushSnapshot(clientOf(repository, { credentials }), snapshot, { migrations });

    await assert.rejects(push(NO_CREDENTIALS), isRefused(PASSWORD));
    await assert.rejects(push(passwordFor('alice', 'white rabbit')), isRefused('white rabbit'));
    const { digest } = await push(passwordFor('alice', PASSWORD));
    const wrong = { kind: 'identity-token', token: 'another token' } as const;
    await assert.rejects(
      push({ ...NO_CREDENTIALS, lookup: async () => ({ credential: wrong, problem: undefined }) }),
      isRefused('another token'),
    );
    const credential = { kind: 'identity-token', token: identityToken } as const;
    await push({ ...NO_CREDENTIALS, lookup: async () => ({ credential, problem: undefined }) });

    tokens.requests.length = 0;
    const client = clientOf(repository, { access: 'pull' });
    assert.ok((await pullSnapshot(client, digest, { migrations })).data.equals(snapshot.data));
    // One token for all requests of a client.
    assert.deepEqual(tokens.requests, ['GET repository:team/state:pull']);
  });
}
