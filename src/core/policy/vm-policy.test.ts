import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from '../errors.ts';
import { GIB, MIB } from '../units.ts';
import { checkVmSpec, type HostFacts, type VmSizing, vmPolicy } from './vm-policy.ts';

const policyOf = (host: HostFacts, vmDefaults: VmSizing = {}) =>
  vmPolicy({ vmDefaults, accel: 'auto' }, host);
const laptop = policyOf({ cpus: 8, memoryMib: 16_384 });

test('defaults: a share of a large host, the builtin ones elsewhere, the config above all', () => {
  const cases: readonly (readonly [HostFacts, number, string, number, string])[] = [
    [{ cpus: 1, memoryMib: 512 }, 2, 'builtin', 256, 'auto'],
    [{ cpus: 2, memoryMib: 3072 }, 2, 'builtin', 1536, 'auto'],
    [{ cpus: 4, memoryMib: 4096 }, 2, 'builtin', 2048, 'builtin'],
    [{ cpus: 8, memoryMib: 16_384 }, 2, 'builtin', 2048, 'builtin'],
    [{ cpus: 12, memoryMib: 32_768 }, 3, 'auto', 4096, 'auto'],
    [{ cpus: 128, memoryMib: 1_048_576 }, 4, 'auto', 8192, 'auto'],
    [{ cpus: 0, memoryMib: 0 }, 2, 'builtin', 2048, 'builtin'],
  ];
  for (const [host, vcpus, vcpuSource, memoryMib, memorySource] of cases) {
    const { defaults } = policyOf(host);
    assert.deepEqual(defaults.vcpus, { value: vcpus, source: vcpuSource });
    assert.deepEqual(defaults.memoryMib, { value: memoryMib, source: memorySource });
    assert.deepEqual(defaults.diskSizeBytes, { value: 8 * GIB, source: 'builtin' });
  }
  const { defaults } = policyOf({ cpus: 8, memoryMib: 16_384 }, { vcpus: 1, diskSizeBytes: 2 * GIB });
  assert.deepEqual(defaults.vcpus, { value: 1, source: 'config' });
  assert.deepEqual(defaults.diskSizeBytes, { value: 2 * GIB, source: 'config' });
});

test('on every host the defaults are within the limits', () => {
  fc.assert(
    fc.property(fc.nat(512), fc.nat(4 * 1024 * 1024), (cpus, memoryMib) => {
      const policy = policyOf({ cpus, memoryMib });
      const { defaults } = policy;
      checkVmSpec(
        {
          vcpus: defaults.vcpus.value,
          memoryMib: defaults.memoryMib.value,
          diskSizeBytes: defaults.diskSizeBytes.value,
        },
        policy,
      );
    }),
  );
});

test('a config beyond the host is refused where it is used', () => {
  assert.throws(
    () => policyOf({ cpus: 2, memoryMib: 4096 }, { memoryMib: 8192 }),
    /vm_defaults: 8192 MiB of memory are more than the limit of 4096 MiB, all this host has/,
  );
});

test('sizes: the limits pass, one beyond does not, and the message names value and limit', () => {
  checkVmSpec({}, laptop);
  checkVmSpec({ vcpus: 1, memoryMib: 128, diskSizeBytes: GIB }, laptop);
  checkVmSpec({ vcpus: 32, memoryMib: 16_384, diskSizeBytes: 128 * GIB }, laptop);
  const wrong: readonly (readonly [VmSizing, RegExp])[] = [
    [{ vcpus: 0 }, /at least 1, not 0/],
    [{ vcpus: -1 }, /at least 1, not -1/],
    [{ vcpus: 1.5 }, /must be whole, not 1.5/],
    [{ vcpus: Number.NaN }, /must be whole, not NaN/],
    [{ vcpus: 33 }, /33 vCPUs are more than the limit of 32 \(this host has 8 CPUs\)/],
    [{ memoryMib: 0 }, /at least 128 MiB, not 0 MiB/],
    [{ memoryMib: -512 }, /at least 128 MiB, not -512 MiB/],
    [{ memoryMib: 127 }, /at least 128 MiB/],
    [{ memoryMib: 512.5 }, /whole number of MiB, not 512.5/],
    [{ memoryMib: 16_385 }, /more than the limit of 16384 MiB/],
    [{ memoryMib: 1e12 }, /more than the limit/],
    [{ diskSizeBytes: 0 }, /at least 1 GiB, not 0 B/],
    [{ diskSizeBytes: -GIB }, /at least 1 GiB, not -1073741824 bytes/],
    [{ diskSizeBytes: GIB - MIB }, /at least 1 GiB/],
    [{ diskSizeBytes: GIB + 1 }, /whole number of MiB/],
    [{ diskSizeBytes: GIB + 0.5 }, /whole number of bytes/],
    [{ diskSizeBytes: 129 * GIB }, /129 GiB is more than the limit of 128 GiB/],
    [{ diskSizeBytes: Number.POSITIVE_INFINITY }, /whole number of bytes/],
  ];
  for (const [sizing, message] of wrong) {
    assert.throws(
      () => checkVmSpec(sizing, laptop),
      (error) => error instanceof BangerError && error.code === 'bad_request' && message.test(error.message),
      JSON.stringify(sizing),
    );
  }
});

test('the limit on vCPUs follows the host up to 64', () => {
  assert.equal(policyOf({ cpus: 1, memoryMib: 4096 }).limits.maxVcpus, 4);
  assert.equal(policyOf({ cpus: 96, memoryMib: 4096 }).limits.maxVcpus, 64);
});
