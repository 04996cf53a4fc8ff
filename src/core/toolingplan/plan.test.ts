import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_PROBLEMS, MAX_TOOLS, TOOL_FILES } from './model.ts';
import { mayFitRange, versionForRange } from './node-range.ts';
import { describeTools, extraTools, NO_TOOLS, planTools } from './plan.ts';

const plan = (files: Readonly<Record<string, string>>) =>
  planTools(Object.entries(files).map(([file, text]) => ({ file, text })));
const asked = (files: Readonly<Record<string, string>>) => describeTools(plan(files).tools);

test('no file, and files without a word about tools, mean no plan', () => {
  assert.deepEqual(plan({}), NO_TOOLS);
  assert.deepEqual(
    plan({ 'package.json': '{"name":"x"}', 'go.mod': 'module x\n', '.nvmrc': '\n' }),
    NO_TOOLS,
  );
  const tasks = plan({ 'mise.toml': '[tasks.test]\nrun = "npm test"\n' });
  assert.deepEqual(tasks, { ...NO_TOOLS, miseConfigs: ['mise.toml'] });
});

test('each kind of file is read, with lines', () => {
  assert.equal(
    asked({ '.tool-versions': '# tools\nnodejs 20.11.0 18.0.0\n\npython 3.12.1 # why\n' }),
    'node 20.11.0 (.tool-versions:2), python 3.12.1 (.tool-versions:4)',
  );
  const toml =
    '[env]\nA = 1\n[tools]\nnode = "22"\npython = ["3.10", "3.11"]\ngo = { version = "1.22", os = "x" }\n"npm:prettier" = "3"\nruby = 3.3\n';
  const all = 'node 22 (F:4), python 3.10 (F:5), go 1.22 (F:6), npm:prettier 3 (F:7), ruby 3.3 (F:8)';
  assert.equal(asked({ 'mise.toml': toml }), all.replaceAll('F', 'mise.toml'));
  assert.equal(asked({ '.mise.toml': toml }), all.replaceAll('F', '.mise.toml'));
  assert.equal(asked({ 'go.mod': 'module x // go 1\n\ngo 1.22\n' }), 'go 1.22 (go.mod:3)');
  assert.equal(asked({ 'go.mod': 'go 1.21.0\ntoolchain go1.22.5\n' }), 'go 1.22.5 (go.mod:2)');
  assert.equal(asked({ 'go.mod': 'toolchain default\ngo 1.21.0\n' }), 'go 1.21.0 (go.mod:2)');
  assert.equal(asked({ '.nvmrc': '# c\nv20.1.0\n' }), 'node 20.1.0 (.nvmrc:2)');
  assert.equal(asked({ '.nvmrc': 'lts/*' }), 'node lts (.nvmrc:1)');
  assert.equal(asked({ '.nvmrc': 'lts/Iron\n' }), 'node 20 (.nvmrc:1)');
  assert.equal(asked({ '.node-version': 'node' }), 'node latest (.node-version:1)');
  assert.equal(asked({ '.python-version': '3.11\n3.10\n' }), 'python 3.11 (.python-version:1)');
  assert.equal(asked({ '.python-version': 'system\n' }), '');
  assert.equal(
    asked({ 'rust-toolchain': 'nightly-2024-01-01\n' }),
    'rust nightly-2024-01-01 (rust-toolchain:1)',
  );
  assert.equal(
    asked({ 'rust-toolchain': '[toolchain]\nchannel = "1.75"\n' }),
    'rust 1.75 (rust-toolchain:2)',
  );
  assert.equal(
    asked({ 'rust-toolchain.toml': '[toolchain]\nprofile = "minimal"\nchannel = "stable"\n' }),
    'rust stable (rust-toolchain.toml:3)',
  );
});

test('package.json: pins before ranges, npm comes with node', () => {
  const json = (value: object) => ({ 'package.json': JSON.stringify(value, null, 2) });
  assert.equal(asked(json({ engines: { npm: '>=8', node: '>=18 <21' } })), 'node 20 (package.json:4)');
  assert.equal(
    asked(json({ engines: { node: '20.x' }, volta: { node: '20.1.0', yarn: '1.22.19' } })),
    'node 20.1.0 (package.json:6), yarn 1.22.19 (package.json:7)',
  );
  assert.equal(asked(json({ packageManager: 'pnpm@9.1.0+sha512.abc' })), 'pnpm 9.1.0 (package.json:2)');
  assert.equal(asked(json({ packageManager: 'npm@10.0.0', engines: { node: '*' } })), '');
  assert.equal(asked(json({ engines: ['node'], volta: 'x', packageManager: 7 })), '');
  assert.deepEqual(plan(json({ engines: { node: 'new' } })).problems, [
    { file: 'package.json', line: 3, what: 'engines.node: "new" is not a range of versions' },
  ]);
});

test('a range becomes the newest version that fits', () => {
  const cases: Readonly<Record<string, string | null | undefined>> = {
    '>=18 <21': '20',
    '>= 18.0.0 < 21': '20',
    '^18 || ^20': '20',
    '^20.1.0 || ^18': '20',
    '>=18': 'lts',
    '>18.12': 'lts',
    '>=16 || 14': 'lts',
    '>=26': '26',
    '18.x': '18',
    '18.12.*': '18.12',
    v18: '18',
    '=18.12.1': '18.12.1',
    '~18.12.1': '18.12',
    '~18': '18',
    '^18.12.1': '18',
    '<=20': '20',
    '<20': '19',
    '<20.5': '20.4',
    '<=18.12.1': '18.12.1',
    '16 - 18': '18',
    '>=18 <100': '24',
    '>=20.0.0-rc.1 <21': '20',
    '*': null,
    '': null,
    'x || 18': null,
    '>=20 <18': undefined,
    latest: undefined,
    '>=': undefined,
    [`1${'0'.repeat(300)}`]: undefined,
  };
  for (const [range, version] of Object.entries(cases)) assert.equal(versionForRange(range), version, range);
});

test('what is installed for a range is in it', () => {
  const number = fc.integer({ min: 0, max: 30 });
  const comparator = fc
    .tuple(
      fc.constantFrom('', '^', '~', '>=', '>', '<', '<='),
      fc.array(number, { minLength: 1, maxLength: 3 }),
    )
    .map(([operator, parts]) => `${operator}${parts.join('.')}`);
  const alternative = fc.array(comparator, { minLength: 1, maxLength: 2 }).map((all) => all.join(' '));
  const range = fc.array(alternative, { minLength: 1, maxLength: 3 }).map((all) => all.join(' || '));
  fc.assert(
    fc.property(range, (text) => {
      const version = versionForRange(text);
      if (version === null || version === undefined) return;
      assert.ok(mayFitRange(text, version), `${text}: ${version}`);
      assert.match(version, /^(lts|\d+(\.\d+){0,2})$/);
    }),
  );
});

test('of two requests for a tool the earlier file counts, and a contradiction is told', () => {
  const files = {
    '.nvmrc': '20',
    '.tool-versions': 'python 3.12\n',
    'package.json': '{"engines":{"node":">=18"}}',
    '.python-version': '3.11.4',
  };
  const found = plan(files);
  assert.equal(describeTools(found.tools), 'python 3.12 (.tool-versions:1), node 20 (.nvmrc:1)');
  assert.deepEqual(found.conflicts.map(describeTools), [
    'python 3.12 (.tool-versions:1), python 3.11.4 (.python-version:1)',
  ]);
  assert.equal(plan({ '.nvmrc': '16', 'package.json': '{"engines":{"node":">=18"}}' }).conflicts.length, 1);
  assert.equal(plan({ '.nvmrc': '20', '.node-version': '20.11.0' }).conflicts.length, 0);
  assert.equal(plan({ '.nvmrc': '2', '.node-version': '20' }).conflicts.length, 1);
  assert.equal(plan({ '.tool-versions': 'node 20\nnode 18' }).conflicts.length, 0);
});

test('only files of mise and asdf make a plan required; the rest are extra tools for it', () => {
  assert.equal(plan({ '.nvmrc': '20', 'go.mod': 'go 1.22' }).required, false);
  const both = plan({ '.mise.toml': '[tools]\nnode = "20"', '.nvmrc': '18', 'go.mod': 'go 1.22' });
  assert.equal(both.required, true);
  assert.deepEqual(both.miseConfigs, ['.mise.toml']);
  assert.deepEqual(extraTools(both), ['go@1.22']);
  // Mise may know what to do with it.
  assert.equal(plan({ '.tool-versions': 'node ref:../x' }).required, true);
  assert.equal(plan({ 'mise.toml': '[tools' }).required, false);
});

test('files that are too large, not what they claim, or hostile', () => {
  const problems = (files: Readonly<Record<string, string>>) => plan(files).problems.map(({ what }) => what);
  assert.deepEqual(problems({ '.nvmrc': ' '.repeat(65_537) }), ['larger than 65536 bytes']);
  assert.deepEqual(problems({ 'mise.toml': '[tools' }), ['not TOML']);
  assert.deepEqual(problems({ 'mise.toml': `a = ${'['.repeat(60_000)}` }), ['not TOML']);
  assert.deepEqual(problems({ 'package.json': '{' }), ['not JSON']);
  assert.deepEqual(problems({ 'package.json': '['.repeat(60_000) }), ['not JSON']);
  assert.deepEqual(problems({ '.nvmrc': '--help' }), ['"--help" is not a version']);
  assert.deepEqual(problems({ '.nvmrc': '20;rm' }), ['"20;rm" is not a version']);
  assert.deepEqual(problems({ '.nvmrc': '\x1b[2J' }), ['"?[2J" is not a version']);
  assert.deepEqual(problems({ '.tool-versions': '-x 1\nnode' }), [
    '"-x" is not the name of a tool',
    '"node" has no version',
  ]);
  const many = Array.from({ length: 1000 }, (_, index) => `tool${index} 1\nbad;${index} 1`).join('\n');
  const found = plan({ '.tool-versions': many });
  assert.equal(found.tools.length, MAX_TOOLS);
  assert.equal(found.problems.length, MAX_PROBLEMS);
});

test('whatever the files hold: a plan, and nothing in it that is an option or a control character', () => {
  const hostile = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc
      .array(
        fc.constantFrom(
          'node',
          'go ',
          '20',
          '-',
          '"',
          '\n',
          '[tools]\n',
          '=',
          '{',
          '}',
          ' ',
          '||',
          '__proto__',
          '>=',
        ),
        { maxLength: 40 },
      )
      .map((parts) => parts.join('')),
    fc.json(),
  );
  const files = fc.record(Object.fromEntries(TOOL_FILES.map((file) => [file, hostile])));
  fc.assert(
    fc.property(files, (texts) => {
      const { tools, problems } = plan(texts);
      for (const { tool, version, line } of tools) {
        assert.match(tool, /^[A-Za-z0-9][\x21-\x7e]{0,99}$/);
        assert.match(version, /^[A-Za-z0-9][\x21-\x7e]{0,63}$/);
        assert.ok(line >= 1);
      }
      for (const { what } of problems) assert.match(what, /^[\x20-\x7e…]{1,200}$/);
    }),
  );
});
