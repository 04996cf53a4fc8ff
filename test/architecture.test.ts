/** Reads every import of src/ against the layer table of docs/architecture.md and says which rule it breaks, and why. */

import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';

const src = join(import.meta.dirname, '..', 'src');

/** Layer → the layers it may import besides itself. The same table stands in docs/architecture.md. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  api: ['core'],
  rpc: ['api', 'core'],
  host: ['core'],
  store: ['host', 'core'],
  oci: ['host', 'core'],
  state: ['store', 'oci', 'host', 'core'],
  images: ['host', 'core'],
  frozen: ['store', 'host', 'core'],
  guest: ['host', 'core'],
  workspace: ['guest', 'host', 'core'],
  vmm: ['host', 'core'],
  daemon: [
    'vmm',
    'workspace',
    'guest',
    'frozen',
    'images',
    'state',
    'oci',
    'store',
    'host',
    'rpc',
    'api',
    'core',
  ],
  cli: ['rpc', 'api', 'core'],
  main: ['cli', 'daemon', 'rpc', 'host', 'core'],
};

/** Single files a layer may import although the table forbids the rest of that layer. */
const EXCEPTIONS: Readonly<Record<string, readonly string[]>> = { cli: ['host/paths.ts'] };

/** What the CLI's start cannot afford, and what only one place may touch. */
const FORBIDDEN_PACKAGES: readonly { layer: string; packages: RegExp; reason: string }[] = [
  { layer: 'core', packages: /^node:/, reason: 'core is pure: no node built-in' },
  {
    layer: 'cli',
    packages: /^(zod|execa|pino|node:http|node:sqlite)$/,
    reason: 'too slow to load at each start',
  },
  { layer: 'rpc', packages: /^(execa|pino|node:http|node:sqlite)$/, reason: 'the CLI loads rpc' },
];

interface Import {
  readonly file: string;
  readonly target: string;
  readonly typeOnly: boolean;
}

function importsOf(file: string): readonly Import[] {
  const text = readFileSync(join(src, file), 'utf8');
  const pattern =
    /(?:^|\n)\s*(import|export)(\s+type)?\s[^;]*?from\s+'([^']+)'|import\(\s*'([^']+)'\s*\)|\n?import\s+'([^']+)'/g;
  return [...text.matchAll(pattern)].map((match) => ({
    file,
    target: match[3] ?? match[4] ?? match[5] ?? '',
    typeOnly: match[2] !== undefined,
  }));
}

const files = globSync('**/*.ts', { cwd: src });
const productFiles = files.filter((file) => !file.endsWith('.test.ts'));
const imports = productFiles.flatMap((file) => importsOf(file));

test('there are sources and imports to look at', () => {
  assert.ok(productFiles.length > 50, `${productFiles.length} files`);
  assert.ok(imports.length > 200, `${imports.length} imports`);
});

test('imports go downwards, as the layer table says', () => {
  const broken: string[] = [];
  for (const { file, target } of imports.filter((one) => one.target.startsWith('.'))) {
    const path = relative(src, resolve(src, dirname(file), target));
    const from = file.split('/')[0] ?? '';
    const to = path.split('/')[0] ?? '';
    if (from === to || (EXCEPTIONS[from] ?? []).includes(path)) continue;
    const allowed = MAY_IMPORT[from];
    if (allowed === undefined) broken.push(`${file}: the folder ${from}/ is in no layer`);
    else if (!allowed.includes(to))
      broken.push(`${file} imports ${path}: ${from} may import ${allowed.join(', ') || 'nothing'}`);
  }
  assert.deepEqual(broken, []);
});

test('layers stay free of the packages they cannot afford', () => {
  const broken: string[] = [];
  for (const { file, target, typeOnly } of imports) {
    for (const { layer, packages, reason } of FORBIDDEN_PACKAGES) {
      if (file.startsWith(`${layer}/`) && !typeOnly && packages.test(target)) {
        broken.push(`${file} imports ${target}: ${reason}`);
      }
    }
  }
  assert.deepEqual(broken, []);
});

test('only the command runner and the VMM drivers start programs', () => {
  const allowed = /^(host\/runner\.ts|vmm\/process\.ts|cli\/connect\/)/;
  const starters = imports.filter(({ target }) => /^(execa|(node:)?child_process)$/.test(target));
  assert.deepEqual(
    starters.map(({ file }) => file).filter((file) => !allowed.test(file)),
    [],
  );
});

test('only src/main touches argv and exit', () => {
  const broken = productFiles.filter(
    (file) =>
      !file.startsWith('main/') &&
      /(?<![.#\w])process\.(argv\b|exit\()/.test(readFileSync(join(src, file), 'utf8')),
  );
  assert.deepEqual(broken, []);
});

test('no enum, no namespace, no default export', () => {
  const broken = files.filter((file) =>
    /^(export )?(declare )?(const )?(enum|namespace) |^export default /m.test(
      readFileSync(join(src, file), 'utf8'),
    ),
  );
  assert.deepEqual(broken, []);
});
