import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import { CONFIG_KEYS, leafKeys } from './config-keys.ts';
import { checkConfig } from './config-check.ts';
import { configSchema, problemsIn, showConfig } from './config-show.ts';

const host = { cpus: 16, memoryMib: 64 * 1024 };
const small = { cpus: 1, memoryMib: 2048 };
const at = (text: string | undefined, env: Record<string, string> = {}, facts = host) => ({
  ...{ file: '/c.toml', text, env: { HOME: '/home/u', ...env }, host: facts },
});
const shown = (...given: Parameters<typeof at>) =>
  Object.fromEntries(
    showConfig(at(...given)).entries.map(({ key, value, source, line, note }) => [
      key,
      [value, source, ...(line === null ? [] : [line]), ...(note === null ? [] : [note])],
    ]),
  );

test('without a file: defaults, what this host gives, and words where there is no value', () => {
  const { exists, entries } = showConfig(at(undefined));
  assert.equal(exists, false);
  assert.deepEqual(
    entries.map(({ key }) => key),
    leafKeys()
      .map(({ path }) => path.join('.'))
      .filter((key) => key !== 'vm_defaults.memory_mib'),
  );
  const all = shown(undefined);
  assert.deepEqual(all['stats_poll_interval'], ['10s', 'default']);
  assert.deepEqual(all['templates.standby'], [true, 'default']);
  assert.deepEqual(all['qemu_bin'], [null, 'default', '`qemu-system-x86_64` from `PATH`']);
  assert.deepEqual(all['vm_defaults.vcpu'], [4, 'auto']);
  assert.deepEqual(all['vm_defaults.memory'], ['8GiB', 'auto']);
  assert.deepEqual(all['vm_defaults.disk_size'], ['8GiB', 'default']);
  assert.deepEqual(shown('', {}, small)['vm_defaults.vcpu'], [2, 'default']);
  assert.deepEqual(shown('', {}, small)['vm_defaults.memory'], ['1GiB', 'auto']);
});

test('what the file and the environment say, with place', () => {
  const text = 'log_level = "warn"\nidle.pause_after = "5m"\n[vm_defaults]\n  memory_mib = 512\n  vcpu = 2\n';
  const all = shown(text);
  assert.deepEqual(all['log_level'], ['warn', 'file', 1]);
  assert.deepEqual(all['idle.pause_after'], ['5m', 'file', 2]);
  assert.deepEqual(all['vm_defaults.memory_mib'], [512, 'file', 4]);
  assert.equal(all['vm_defaults.memory'], undefined);
  assert.deepEqual(all['vm_defaults.vcpu'], [2, 'file', 5]);
  const env = { BANGER_LOG_LEVEL: 'error' };
  assert.deepEqual(shown(text, env)['log_level'], ['error', 'environment', 'BANGER_LOG_LEVEL']);
  assert.throws(() => showConfig(at('accel = 1')), /\/c\.toml:1:1: accel/);
});

test('the same settings have the same digest, however they are written', () => {
  const digest = (text: string) => showConfig(at(text)).digest;
  assert.equal(digest('idle.pause_after = "60s"'), digest('[idle]\npause_after = "1m"'));
  assert.notEqual(digest(''), digest('idle.pause_after = "1m"'));
});

test('all mistakes at once, in the order of the file, those of the host and the environment too', () => {
  const text =
    'accel = "xen"\ncidr = 24\n[vm_defaults]\nsystem_overlay_size = "8G"\nvcpu = 0\n[[templates]]\n';
  const problems = problemsIn(at(text, { BANGER_LOG_LEVEL: 'loud' }));
  assert.deepEqual(
    problems.map(
      ({ where, line, column, message, hint }) => `${where}:${line}:${column}: ${message} | ${hint}`,
    ),
    [
      '/c.toml:1:1: accel: must be one of "auto", "kvm", "tcg" | null',
      '/c.toml:2:1: unknown key "cidr" | cidr does not apply: each VM has a user-mode network of its own here, without bridge or taps',
      '/c.toml:4:1: unknown key "system_overlay_size" in [vm_defaults] | vm_defaults.system_overlay_size is part of vm_defaults.disk_size here: a VM has one disk',
      '/c.toml:5:1: vm_defaults.vcpu: must be at least 1 | null',
      '/c.toml:6:3: templates: must be a table: [templates] | null',
      'BANGER_LOG_LEVEL:null:null: BANGER_LOG_LEVEL is "loud"; allowed: debug, info, warn, error | null',
    ],
  );
  const large = problemsIn(at('[vm_defaults]\nvcpu = 60\nmemory = "3GiB"\ndisk_size = "1TiB"', {}, small));
  assert.deepEqual(
    large.map(({ line, message }) => [line, message]),
    [
      [2, 'vm_defaults.vcpu: 60 vCPUs are more than the limit of 4 (this host has 1 CPUs)'],
      [3, 'vm_defaults.memory: 3072 MiB of memory are more than the limit of 2048 MiB, all this host has'],
      [4, 'vm_defaults.disk_size: a disk of 1 TiB is more than the limit of 128 GiB'],
    ],
  );
  assert.deepEqual(
    problemsIn(at('accel = = 1')).map(({ line, column }) => [line, column]),
    [[1, 9]],
  );
  assert.deepEqual(problemsIn(at(undefined)), []);
  assert.equal(problemsIn(at(Array.from({ length: 500 }, (_, n) => `k${n} = 1`).join('\n'))).length, 100);
});

test('a load tells the first mistake of the file, and that there are more', () => {
  assert.throws(
    () => showConfig(at('accel = 1\ndriver = 2\nlog_level = 3')),
    (error) => {
      assert.ok(error instanceof BangerError);
      assert.match(error.message, /^\/c\.toml:1:1: accel/);
      assert.equal(error.hint, 'banger config check lists 2 more');
      return true;
    },
  );
});

test('every key has a description, and a default that it takes itself', () => {
  for (const { path, description, fallback, otherwise } of leafKeys()) {
    assert.ok(description.length > 5, path.join('.'));
    assert.notEqual(fallback === undefined, otherwise === undefined, path.join('.'));
  }
});

/** A text of what such values are made of, so that many are right and many just miss. */
const nearly = fc.oneof(
  fc
    .array(
      fc.constantFrom(
        '1',
        '0',
        '1.5',
        '30',
        's',
        'm',
        'ms',
        'h',
        ' ',
        'G',
        'GiB',
        'mib',
        'B',
        'k',
        '-',
        '.',
        '~/',
        '/',
        'a',
        'debian',
      ),
      { maxLength: 4 },
    )
    .map((parts) => parts.join('')),
  fc.constantFrom('auto', 'kvm', 'info', 'qemu', 'debian-bookworm', '..', 'x..y', 'A'),
);
const anyValue = fc.oneof(
  nearly,
  fc.integer({ min: -2, max: 4 }),
  fc.boolean(),
  fc.constantFrom(1.5, 0),
  fc.constant({}),
);

test('the JSON Schema takes what the loader takes, and refuses the rest but for what it cannot say', () => {
  const schema = configSchema() as Parameters<typeof z.fromJSONSchema>[0];
  assert.equal((schema as { $schema?: string }).$schema, 'https://json-schema.org/draft/2020-12/schema');
  assert.match(JSON.stringify(schema), /"not":\{"required":\["memory","memory_mib"\]\}/);
  // Zod cannot read `not`; no file below has both keys.
  const asSchema = z.fromJSONSchema(
    JSON.parse(
      JSON.stringify(schema, (name, value: unknown) => (name === 'not' ? undefined : value)),
    ) as typeof schema,
  );
  /** The least or largest value, and whole MiB: what a pattern cannot say. */
  const unsaid =
    /must be at least \d+[sm]|whole number of MiB|too large|whole number of bytes|not a duration/;
  let agreed = 0;
  for (const { path } of leafKeys()) {
    fc.assert(
      fc.property(anyValue, (value) => {
        const [last = '', ...outer] = path.toReversed();
        const file = outer.reduce<object>((inner, name) => ({ [name]: inner }), { [last]: value });
        const loaded = CONFIG_KEYS.safeParse(file);
        const taken = asSchema.safeParse(file).success;
        const why = `${path.join('.')} = ${JSON.stringify(value)}: ${loaded.error?.message}`;
        if (loaded.success) {
          assert.ok(taken, `refused by the schema: ${why}`);
          agreed += 1;
        } else if (taken) assert.match(loaded.error.message, unsaid, `taken by the schema: ${why}`);
      }),
      { numRuns: 200 },
    );
  }
  assert.ok(agreed > 100, `${agreed} values were right`);
  for (const file of [{ nothing: 1 }, { idle: { nothing: 1 } }, { idle: 3 }]) {
    assert.equal(asSchema.safeParse(file).success, false);
  }
  assert.ok(asSchema.safeParse({}).success);
});

test('whatever the file holds: settings or problems with a place', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      const checked = checkConfig(text, 'f');
      if ('problems' in checked) for (const { line } of checked.problems) assert.ok((line ?? 0) >= 1);
    }),
  );
});
