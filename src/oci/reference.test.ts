import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from '../core/errors.ts';
import { formatReference, isLoopbackHost, parseReference, parseRepository, parseTag } from './reference.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

function isBadRequest(error: unknown): boolean {
  return error instanceof BangerError && error.code === 'bad_request';
}

test('what references mean', () => {
  const parts: [
    text: string,
    registry: string,
    origin: string,
    name: string,
    tag?: string | undefined,
    digest?: string,
  ][] = [
    ['registry.example.com/a', 'registry.example.com', 'https://registry.example.com', 'a'],
    [
      'Registry.Example.com:5000/a/b:v1',
      'registry.example.com:5000',
      'https://registry.example.com:5000',
      'a/b',
      'v1',
    ],
    [
      `registry.example.com/a@${DIGEST}`,
      'registry.example.com',
      'https://registry.example.com',
      'a',
      undefined,
      DIGEST,
    ],
    [
      `registry.example.com/a:V_1.-@${DIGEST}`,
      'registry.example.com',
      'https://registry.example.com',
      'a',
      'V_1.-',
      DIGEST,
    ],
    ['docker.io/node:22', 'docker.io', 'https://registry-1.docker.io', 'library/node', '22'],
    ['docker.io/library/node', 'docker.io', 'https://registry-1.docker.io', 'library/node'],
    ['index.docker.io/team/app', 'docker.io', 'https://registry-1.docker.io', 'team/app'],
    ['localhost/a', 'localhost', 'http://localhost', 'a'],
    ['localhost:5000/a', 'localhost:5000', 'http://localhost:5000', 'a'],
    ['127.0.0.1:80/a', '127.0.0.1:80', 'http://127.0.0.1', 'a'],
    ['127.255.0.3:5000/a', '127.255.0.3:5000', 'http://127.255.0.3:5000', 'a'],
    ['[::1]:5000/a', '[::1]:5000', 'http://[::1]:5000', 'a'],
    ['[2001:db8::1]/a', '[2001:db8::1]', 'https://[2001:db8::1]', 'a'],
    ['128.0.0.1/a', '128.0.0.1', 'https://128.0.0.1', 'a'],
    ['localhost.example.com/a', 'localhost.example.com', 'https://localhost.example.com', 'a'],
    ['r.example.com/a__b/c---d.e', 'r.example.com', 'https://r.example.com', 'a__b/c---d.e'],
  ];
  for (const [text, registry, origin, name, tag, digest] of parts) {
    assert.deepEqual(parseReference(text), { registry, origin, name, tag, digest });
  }
});

test('what is no reference', () => {
  for (const text of [
    '',
    'node',
    'node:22',
    'team/app',
    '/a',
    'registry.example.com',
    'registry.example.com/',
    'registry.example.com/A',
    'registry.example.com/a//b',
    'registry.example.com/a/',
    'registry.example.com/../b',
    'registry.example.com/a..b',
    'registry.example.com/a___b',
    'registry.example.com/-a',
    'registry.example.com/a:',
    'registry.example.com/a:b:c',
    `registry.example.com/a:${'x'.repeat(129)}`,
    'registry.example.com/a:.x',
    'registry.example.com/a@sha256:abc',
    `registry.example.com/a@${DIGEST.toUpperCase()}`,
    `registry.example.com/a@sha512:${'0'.repeat(128)}`,
    `registry.example.com/a@${DIGEST}@${DIGEST}`,
    'registry.example.com:0/a',
    'registry.example.com:65536/a',
    'registry.example.com:/a',
    'registry.example.com:5000x/a',
    'registry..example.com/a',
    '-registry.example.com/a',
    'user@registry.example.com/a',
    'user:pw@registry.example.com/a',
    'https://registry.example.com/a',
    'registry.example.com/a?x=1',
    'registry.example.com/a#x',
    'registry.example.com/a b',
    'registry.example.com/a\n',
    'registry.example.com\\evil/a',
    '256.0.0.1/a',
    '[::1/a',
    '[:::1]/a',
    '[fe80::1%25eth0]/a',
    `registry.example.com/${'a'.repeat(240)}`,
    `registry.example.com/${'a/'.repeat(300)}a`,
  ]) {
    assert.throws(() => parseReference(text), isBadRequest, text);
  }
});

test('a name without a registry is told how it is meant on Docker Hub', () => {
  assert.throws(
    () => parseReference('team/app:1'),
    (error) => error instanceof BangerError && /docker\.io\/team\/app:1/.test(error.hint ?? ''),
  );
});

test('a repository has neither tag nor digest', () => {
  assert.equal(parseRepository('registry.example.com/a').name, 'a');
  assert.throws(() => parseRepository('registry.example.com/a:v1'), isBadRequest);
  assert.throws(() => parseRepository(`registry.example.com/a@${DIGEST}`), isBadRequest);
});

test('tags', () => {
  for (const tag of ['latest', '_', '1', 'x'.repeat(128), 'A.b-c_d']) assert.equal(parseTag(tag), tag);
  for (const tag of ['', '.x', '-x', 'x'.repeat(129), 'a/b', 'a b', 'é', 'a\n']) {
    assert.throws(() => parseTag(tag), isBadRequest, tag);
  }
});

test('plain http is for addresses that cannot leave this machine, however they are spelled', () => {
  for (const text of ['0x7f000001:5000/a', '2130706433:5000/a', '127.1:5000/a', '0177.0.0.1:5000/a']) {
    const { origin } = parseReference(text);
    assert.equal(origin, 'http://127.0.0.1:5000');
  }
  for (const host of ['127.0.0.1.example.com', '1270.0.0.1', '[::ffff:7f00:1]', 'localhost.']) {
    assert.equal(isLoopbackHost(host), false, host);
  }
});

test('whatever is taken is an address of exactly that host, and comes back from what is written of it', () => {
  const piece = fc.string({ unit: fc.constantFrom(...'ab0.-_:/@[]% \\?#A'), maxLength: 6 });
  const text = fc.oneof(
    piece,
    piece.map((rest) => `r.example.com/${rest}`),
    piece.map((rest) => `${rest}/a`),
  );
  let taken = 0;
  fc.assert(
    fc.property(text, (candidate) => {
      let reference: ReturnType<typeof parseReference>;
      try {
        reference = parseReference(candidate);
      } catch (error) {
        return isBadRequest(error);
      }
      taken += 1;
      const url = new URL(`${reference.origin}/v2/${reference.name}/manifests/x`);
      assert.equal(url.username + url.password + url.search + url.hash, '');
      assert.equal(url.pathname, `/v2/${reference.name}/manifests/x`);
      const version = reference.digest ?? reference.tag ?? 'x';
      const again = parseReference(formatReference(reference, version));
      assert.deepEqual(
        [again.registry, again.name, again.tag],
        [reference.registry, reference.name, version],
      );
      return true;
    }),
    { numRuns: 5000 },
  );
  assert.ok(taken > 10, `${taken}`);
});
