import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type GuestFacts, guestConfigFrom } from './guest-config.ts';

const facts: GuestFacts = {
  hostname: 'dev',
  network: {
    mac: '52:54:00:12:34:56',
    guestIp: '10.0.2.15',
    prefixLength: 24,
    gatewayIp: '10.0.2.2',
    dnsIp: '10.0.2.3',
    outbound: true,
  },
  authorizedKeys: ['ssh-ed25519 AAAA one\n', 'ssh-ed25519 BBBB two'],
  entropy: new Uint8Array(64),
  clockNs: 1_700_000_000_123_400_000n,
  handOverInit: false,
};

function fileText(changed: Partial<GuestFacts>, path: string): string | undefined {
  const file = guestConfigFrom({ ...facts, ...changed }).files.find((one) => one.path === path);
  return file === undefined ? undefined : Buffer.from(file.content).toString();
}

test('with outbound network: address, gateway and name server', () => {
  const config = guestConfigFrom(facts);
  assert.equal(config.address, '10.0.2.15/24');
  assert.equal(config.gateway, '10.0.2.2');
  assert.equal(config.clockNs, 1_700_000_000_123_400_000n);
  assert.equal(fileText({}, '/etc/resolv.conf'), 'nameserver 10.0.2.3\n');
});

test('what tells the machine from its clones is left as it is unless given', () => {
  const { mac, bootId, machineId, rootDiskBytes } = guestConfigFrom(facts);
  assert.deepEqual([mac, bootId, machineId, rootDiskBytes], ['52:54:00:12:34:56', '', '', 0]);
  const given = { bootId: 'b', machineId: 'm', rootDiskBytes: 7 };
  assert.deepEqual(
    { ...guestConfigFrom({ ...facts, ...given }), ...given },
    guestConfigFrom({ ...facts, ...given }),
  );
  assert.equal(guestConfigFrom({ ...facts, network: null }).mac, '');
});

test('without outbound network: an address, no way out, no name server', () => {
  assert(facts.network !== null);
  const network = { ...facts.network, outbound: false };
  assert.equal(guestConfigFrom({ ...facts, network }).gateway, '');
  assert.equal(guestConfigFrom({ ...facts, network }).address, '10.0.2.15/24');
  assert.doesNotMatch(fileText({ network }, '/etc/resolv.conf') ?? '', /nameserver/);
  assert.equal(guestConfigFrom({ ...facts, network: null }).address, '');
});

test('the VM knows its own names', () => {
  assert.equal(fileText({}, '/etc/hostname'), 'dev\n');
  assert.match(fileText({}, '/etc/hosts') ?? '', /^127\.0\.0\.1 localhost\n10\.0\.2\.15 dev\.vm dev\n/);
  assert.match(fileText({ network: null }, '/etc/hosts') ?? '', /^127\.0\.1\.1 dev\.vm dev$/m);
});

test('keys are one per line in a private file; without keys there is no file', () => {
  const path = '/root/.ssh/authorized_keys';
  assert.equal(fileText({}, path), 'ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n');
  assert.equal(guestConfigFrom(facts).files.find((file) => file.path === path)?.mode, 0o600);
  assert.equal(fileText({ authorizedKeys: [] }, path), undefined);
});
