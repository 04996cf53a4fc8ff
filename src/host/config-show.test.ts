import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import { CONFIG_KEYS, leafKeys } from './config-keys.ts';
import { checkConfig } from './config-check.ts';
import { configOf, configSchema, problemsIn, showConfig } from './config-show.ts';

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

const told = (...given: Parameters<typeof at>) =>
  problemsIn(at(...given)).problems.map(
    ({ where, line, column, key, message, hint }) =>
      `${where}:${line}:${column} ${key}: ${message}${hint === null ? '' : ` | ${hint}`}`,
  );

test('all mistakes at once, in the order of the file, those of the host and the environment too', () => {
  const text = `accel = "xen"
cidr = 24
file_sync = [ { host = "~/a", guest = "~/a" }, # ]
  { guest = "~/b", mode = 600, "own er" = 1 } ]
vm_defaults = { vcpu = 60, memory_mib = 512, memory = "4GB", # }
  disk_size = "1TiB", system_overlay_size = "8G" }
[idle]
pause_after = "1m"
driver = "kvm"
[[templates]]
`;
  const mode = 'must be three octal digits in quotes, with or without a 0 before them: "600", "0600"';
  assert.deepEqual(told(text, { BANGER_LOG_LEVEL: 'loud' }, small), [
    '/c.toml:1:1 accel: accel: must be one of "auto", "kvm", "tcg"',
    '/c.toml:2:1 cidr: unknown key "cidr" | cidr does not apply: each VM has a user-mode network of its own here, without bridge or taps',
    '/c.toml:4:3 file_sync[2].host: file_sync[2].host: is missing; it must be a path below "~/", without ".."',
    `/c.toml:4:20 file_sync[2].mode: file_sync[2].mode: ${mode}`,
    '/c.toml:4:32 file_sync[2]."own er": unknown key "own er" in [file_sync[2]] | allowed: host, guest, mode',
    '/c.toml:5:17 vm_defaults.vcpu: vm_defaults.vcpu: 60 vCPUs are more than the limit of 4 (this host has 1 CPU)',
    '/c.toml:5:46 vm_defaults.memory: vm_defaults.memory: size "4GB" is not a size | write a number with K, M, G or T (powers of 1024, "4G" or "4GiB"); a bare number counts as MiB',
    '/c.toml:5:46 vm_defaults.memory: vm_defaults.memory: is given twice: as memory and as memory_mib',
    '/c.toml:6:3 vm_defaults.disk_size: vm_defaults.disk_size: a disk of 1 TiB is more than the limit of 128 GiB',
    '/c.toml:6:23 vm_defaults.system_overlay_size: unknown key "system_overlay_size" in [vm_defaults] | vm_defaults.system_overlay_size is part of vm_defaults.disk_size here: a VM has one disk',
    '/c.toml:9:1 idle.driver: unknown key "driver" in [idle] | driver belongs before the first [table]',
    '/c.toml:10:3 templates: templates: must be a table: [templates]',
    'BANGER_LOG_LEVEL:null:null null: BANGER_LOG_LEVEL is "loud"; allowed: debug, info, warn, error',
  ]);
  assert.deepEqual(told('[vm_defaults]\nvcpu = 60\nmemory_mib = 3072', {}, small), [
    '/c.toml:2:1 vm_defaults.vcpu: vm_defaults.vcpu: 60 vCPUs are more than the limit of 4 (this host has 1 CPU)',
    '/c.toml:3:1 vm_defaults.memory_mib: vm_defaults.memory_mib: 3072 MiB of memory are more than the limit of 2048 MiB, all this host has',
  ]);
  assert.deepEqual(problemsIn(at(undefined)), { problems: [], unlisted: 0 });
});

test('of very many mistakes the first are listed, and the others counted', () => {
  const keys = Array.from({ length: 500 }, (_, n) => `k${n} = 1`);
  const { problems, unlisted } = problemsIn(
    at([...keys.slice(0, 30), 'accel = 1', ...keys.slice(30)].join('\n')),
  );
  assert.deepEqual([problems.length, unlisted], [100, 401]);
  assert.deepEqual(
    problems.map(({ line }) => line),
    problems.map((_, index) => index + 1),
  );
  assert.throws(() => configOf(at(`${'x'.repeat(9000)} = 1\n${keys.join('\n')}`)), {
    message: `/c.toml:1:1: unknown key "${'x'.repeat(64)}…"`,
    hint: /\n500 more mistakes: banger config check lists all$/,
  });
});

test('an unknown key is answered with what was likely meant', () => {
  const known = 'allowed: vcpu, memory, memory_mib, disk_size, nat';
  const hints: readonly (readonly [string, string])[] = [
    ['acel = 1', 'did you mean accel?'],
    ['log-level = 1', 'did you mean log_level?'],
    ['[vm_default]', 'did you mean vm_defaults?'],
    ['[[files_sync]]', 'did you mean file_sync?'],
    ['[bin]', 'did you mean qemu_bin or firecracker_bin?'],
    ['vm_defaults = { cpus = 2 }', 'did you mean vcpu?'],
    ['[vm_defaults]\nram = 2', known],
    ['[vm_defaults]\n"" = 2', known],
    ['[vm_defaults]\n__proto__ = 2', known],
    ['[vm_defaults]\nconstructor = 2', known],
    ['[vm_defaults]\naccel = "tcg"', 'accel belongs before the first [table]'],
    ['[vm_defaults]\nacel = "tcg"', 'did you mean accel before the first [table]?'],
    ['max_size = 0', 'max_size belongs in [templates]'],
    ['[[file_sync]]\nhost = "~/a"\nguest = "~/a"\nlisten = 1', 'listen belongs in [dns]'],
    ['mem = 2', `allowed: ${Object.keys(CONFIG_KEYS.shape).join(', ')}`],
    ['vcpus = 2', 'did you mean vcpu in [vm_defaults]?'],
    [
      'cidr = 2',
      'cidr does not apply: each VM has a user-mode network of its own here, without bridge or taps',
    ],
    ['__proto__.x = 2', `allowed: ${Object.keys(CONFIG_KEYS.shape).join(', ')}`],
  ];
  for (const [text, expected] of hints) {
    const { problems } = problemsIn(at(text));
    assert.deepEqual(
      problems.map(({ hint }) => hint),
      [expected],
      text,
    );
  }
});

test('a text that is not TOML is told with what people mostly have done', () => {
  const quotes = /^a text stands in quotes: accel = "tcg"/;
  const line = /^a line is a key with a value/;
  const texts: readonly (readonly [string, string, string, RegExp])[] = [
    ['accel = tcg', '1:9', 'invalid value', quotes],
    ['accel = “tcg”', '1:9', 'invalid value', quotes],
    ['memory = 4GiB', '1:11', 'illegal character in numeric literal', quotes],
    ['mode = 0600', '1:8', 'illegal leading zero', quotes],
    ['accel "tcg"', '1:7', 'illegal character in key', line],
    ['{"accel": "tcg"}', '1:1', 'illegal character in key', line],
    ['\uFEFFaccel', '1:1', 'incomplete key-value: cannot find end of key', line],
    ['accel = "tcg\n', '1:13', 'control characters are not allowed in strings', /the quote it began with$/],
    ['accel = "tcg', '1:9', 'unfinished string', /the quote it began with$/],
    ['[idle]\r\n[idle]', '2:2', 'trying to redefine an already defined table or value', /further up/],
    ['a = 1 b = 2', '1:7', 'each key-value declaration must be followed by an end-of-line', /one key/],
    [
      `a = ${'['.repeat(5000)}`,
      '1:1005',
      'document contains excessively nested structures. aborting.',
      /toml\.io$/,
    ],
    ['a = "\uFFFD"\nb = = 1', '1:6', 'is not UTF-8 here', /^save the file as text in UTF-8$/],
    ['      a = = 1\nb = "\uFFFD"', '1:11', 'invalid value', quotes],
    ['a = = "\uFFFD"', '1:5', 'invalid value', quotes],
    ['accel = "tcg" # \uFFFD', '1:17', 'is not UTF-8 here', /UTF-8/],
  ];
  for (const [text, place, message, hint] of texts) {
    const { problems } = problemsIn(at(text));
    const [only] = problems;
    assert.deepEqual(
      [problems.length, `${only?.line}:${only?.column}`, only?.key, only?.message],
      [1, place, null, message],
      text.slice(0, 50),
    );
    assert.match(only?.hint ?? '', hint, text.slice(0, 50));
  }
});

test('a load tells the first mistake, and how to see the others, of whichever kind', () => {
  const fails = (text: string, message: string, hint: string, env = {}) => {
    for (const load of [configOf, showConfig])
      assert.throws(
        () => load(at(text, env, small)),
        (error) => {
          assert.ok(error instanceof BangerError);
          assert.deepEqual([error.code, error.message, error.hint], ['bad_request', message, hint]);
          return true;
        },
      );
  };
  const accel = '/c.toml:1:1: accel: must be one of "auto", "kvm", "tcg"';
  fails('accel = 1\ndriver = 2\nlog_level = 3', accel, '2 more mistakes: banger config check lists all');
  fails('accel = 1\nvm_defaults.vcpu = 60', accel, '1 more mistake: banger config check lists all');
  fails('accel = 1', accel, '1 more mistake: banger config check lists all', { BANGER_LOG_LEVEL: 'loud' });
  fails(
    'acel = 1\ndriver = 2',
    '/c.toml:1:1: unknown key "acel"',
    'did you mean accel?\n1 more mistake: banger config check lists all',
  );
  assert.throws(() => configOf(at('vm_defaults = { vcpu = 60 }', {}, small)), {
    message: /^\/c\.toml:1:17: vm_defaults\.vcpu: 60 vCPUs are more/,
    hint: undefined,
  });
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
      const checked = checkConfig(text, 'f', null);
      if ('problems' in checked) for (const { line } of checked.problems) assert.ok((line ?? 0) >= 1);
    }),
  );
});
