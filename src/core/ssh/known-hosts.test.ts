import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { publicKeyOf, withHost, withoutHost } from './known-hosts.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIywk9OO2VfVNVT6BRI1UOaj6Fw1le9ZmgswqwG8vLQK';
const ALL = (): boolean => true;

function idOf(number: number): string {
  return number.toString(16).padStart(32, '0');
}

function host(number: number, name = `vm-${number}`, publicKey = KEY) {
  return { vmId: idOf(number), name, publicKey };
}

test('a line names the host, with any port, its key, and the VM', () => {
  assert.equal(withHost('', host(1, 'dev'), ALL), `dev.vm,[dev.vm]:* ${KEY} ${idOf(1)}\n`);
});

test('there is one line for each VM that exists, and one for each name', () => {
  const step = fc.record({ number: fc.nat(5), name: fc.constantFrom('a', 'b', 'ab'), gone: fc.nat(5) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      let file = '';
      let expected = new Map<string, string>();
      for (const { number, name, gone } of steps) {
        const exists = (id: string): boolean => id !== idOf(gone) || gone === number;
        file = withHost(file, host(number, name), exists);
        expected = new Map(
          [...expected].filter(([id, other]) => other !== name && id !== idOf(number) && exists(id)),
        );
        expected.set(idOf(number), name);
      }
      const lines = file.split('\n').slice(0, -1);
      const found = lines.map((line) => [line.split(' ')[3], line.split('.vm,')[0]]);
      assert.deepEqual(found, [...expected]);
    }),
  );
});

test('the same again changes nothing, and what is no line of ours is dropped', () => {
  const file = withHost(withHost('', host(1), ALL), host(2), ALL);
  assert.equal(withHost(file, host(2), ALL), file);
  assert.equal(withoutHost(file, idOf(2)), withHost('', host(1), ALL));
  assert.equal(withoutHost(`\0\0\n${file}half a li`, idOf(9)), file);
});

test('what ssh-keygen writes is read, with and without a comment; anything else is not', () => {
  assert.equal(publicKeyOf(`${KEY}\n`), KEY);
  assert.equal(publicKeyOf(`${KEY} me@host\n`), KEY);
  for (const line of ['', 'x', `${KEY}\n${KEY}\n`, `${KEY}!\n`, `command="x" ${KEY}\n`, 'ssh-ed25519 \n'])
    assert.equal(publicKeyOf(line), undefined, line);
});
