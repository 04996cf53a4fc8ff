import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildGuestConfig, ENTROPY_BYTES, machineIdOf } from './guest-config.ts';

const start = { hostname: 'dev', network: null, authorizedKeys: [], handOverInit: false };

test('every start gets entropy of its own and the clock of now', () => {
  const before = Date.now();
  const [one, other] = [buildGuestConfig(start), buildGuestConfig(start)];
  assert.equal(one.entropy.length, ENTROPY_BYTES);
  assert.notDeepEqual(one.entropy, other.entropy);
  assert(one.clockNs >= BigInt(before) * 1_000_000n && other.clockNs < BigInt(Date.now() + 1) * 1_000_000n);
});

test("a machine id is the VM's for good, is no part of its id, and has the form of a UUID of version 4", () => {
  const vmId = '0123456789abcdef0123456789abcdef';
  const id = machineIdOf(vmId);
  assert.match(id, /^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  assert.equal(buildGuestConfig({ ...start, vmId }).machineId, id);
  assert.notEqual(machineIdOf(vmId.replace('0', '1')), id);
  assert(!id.includes(vmId.slice(0, 8)));
  assert.equal(buildGuestConfig(start).machineId, '');
});
