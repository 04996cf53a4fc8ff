/** README.md and docs/ against the program: what they say of commands, codes, methods, keys, states, layers and files is so. */

import assert from 'node:assert/strict';
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { LONG_METHODS, type Method } from '../src/api/contract.ts';
import { paramsSchemas } from '../src/api/schemas.ts';
import { resolveWords } from '../src/cli/app.ts';
import { type Group, isGroup, type Leaf, root } from '../src/cli/tree.ts';
import { ERROR_CODES } from '../src/core/errors.ts';
import { legalStates, VM_ACTIONS } from '../src/core/lifecycle.ts';
import { VM_STATES } from '../src/core/model/vm.ts';
import { parseConfig } from '../src/host/config.ts';
import { CONFIG_KEYS, leafKeys } from '../src/host/config-keys.ts';
import { fakeCli } from './cli/fake-cli.ts';

const repo = join(import.meta.dirname, '..');
const pages = ['README.md', ...globSync('docs/**/*.md', { cwd: repo })].toSorted();

function page(name: string): string {
  return readFileSync(join(repo, name), 'utf8');
}

interface Block {
  readonly language: string;
  readonly lines: readonly string[];
}

function blocksOf(text: string): readonly Block[] {
  return [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language = '', body = '']) => ({
    language,
    lines: body.split('\n').slice(0, -1),
  }));
}

function withoutBlocks(text: string): string {
  return text.replace(/^```.*?^```$/gms, '');
}

/** The text of each `code` outside of blocks. */
function inlineCode(text: string): readonly string[] {
  return [...withoutBlocks(text).matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code);
}

/** Rows of the table whose first header cell is `first`, without the header; cells as they are written. */
function tableRows(text: string, first: string): readonly (readonly string[])[] {
  const lines = text.split('\n');
  const at = lines.findIndex((line) => line.startsWith(`| ${first} |`));
  assert.ok(at >= 0, `no table that begins with "${first}"`);
  const end = lines.findIndex((line, index) => index > at && !line.startsWith('|'));
  // An escaped bar stays in its cell.
  return lines.slice(at + 2, end).map((line) =>
    line
      .slice(1, -1)
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim()),
  );
}

/** GitHub's anchor of a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
}

function anchorsOf(text: string): ReadonlySet<string> {
  return new Set(
    [...withoutBlocks(text).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => anchorOf(heading)),
  );
}

test('every relative link leads somewhere', () => {
  const broken: string[] = [];
  let links = 0;
  for (const name of pages) {
    for (const [, target = ''] of withoutBlocks(page(name)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      links += 1;
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? name : relative(repo, resolve(repo, dirname(name), path));
      const found = existsSync(join(repo, file));
      if (!found || (anchor !== undefined && !anchorsOf(page(file)).has(anchor)))
        broken.push(`${name}: ${target}`);
    }
  }
  assert.deepEqual(broken, []);
  assert.ok(links > 50, `${links} links`);
});

test('README links every page', () => {
  const readme = page('README.md');
  for (const name of pages.filter((one) => one !== 'README.md'))
    assert.ok(readme.includes(`](${name})`), name);
});

test('every page but the protocol opens with a command to run', () => {
  for (const name of pages.filter((one) => one !== 'docs/agent-protocol.md')) {
    const [first] = blocksOf(page(name));
    assert.match(first?.language ?? '', /^(sh|console)$/, name);
    const before = page(name).split('```')[0] ?? '';
    assert.ok(before.split('\n').length < 7, `${name}: the first block comes late`);
  }
});

/** Command lines in `sh` blocks, and after `$ ` in `console` blocks. */
function shellLines(text: string): readonly string[] {
  return blocksOf(text).flatMap(({ language, lines }) => {
    if (language === 'sh') return lines;
    if (language === 'console')
      return lines.filter((line) => line.startsWith('$ ')).map((line) => line.slice(2));
    return [];
  });
}

/** The arguments of each `banger` at the place of a command. Enough of a shell for documentation. */
function bangerCalls(line: string): string[][] {
  const tokens = line.match(/(?:'[^']*'|"[^"]*"|\\.|[^\s'"\\])+/g) ?? [];
  const calls: string[][] = [];
  let call: string[] | undefined;
  let atCommand = true;
  for (const token of tokens) {
    if (/^(#|[|;<>)]|&&|>>)/.test(token)) {
      if (token.startsWith('#')) break;
      call = undefined;
      atCommand = !/^[<>]/.test(token);
    } else if (call !== undefined) {
      const last = /^[^'"]*[;)]$/.test(token);
      call.push(token.replace(/^(['"])(.*)\1$/, '$2').replace(/[;)]$/, last ? '' : '$&'));
      if (last) call = undefined;
      atCommand = last;
    } else if (atCommand && /^(\W*\(|\.\/)?banger$/.test(token)) {
      call = [];
      calls.push(call);
    } else {
      atCommand = atCommand && /^[A-Z_]+=/.test(token);
    }
  }
  return calls;
}

test('the reader of shell lines finds what a shell would run', () => {
  assert.deepEqual(bangerCalls("./banger vm run --rm . -- sh -c 'a && b'   # and so on"), [
    ['vm', 'run', '--rm', '.', '--', 'sh', '-c', 'a && b'],
  ]);
  assert.deepEqual(bangerCalls('tar c src | banger vm exec dev -- tar x'), [
    ['vm', 'exec', 'dev', '--', 'tar', 'x'],
  ]);
  assert.deepEqual(bangerCalls('A=1 banger ps > list && banger vm list'), [['ps'], ['vm', 'list']]);
  assert.deepEqual(bangerCalls('cd banger && echo banger x'), []);
});

async function usageErrorOf(argv: readonly string[]): Promise<string | undefined> {
  const { status, stderr } = await fakeCli(argv, {
    stdinIsTTY: true,
    // Otherwise `logs -f` follows for ever.
    onInterruptible: (interrupt) => setImmediate(interrupt),
  });
  return status === 2 ? stderr : undefined;
}

test('every command line parses', async () => {
  const wrong: string[] = [];
  let calls = 0;
  for (const name of pages) {
    for (const line of shellLines(page(name))) {
      for (const argv of bangerCalls(line)) {
        calls += 1;
        const error = await usageErrorOf(argv);
        if (error !== undefined) wrong.push(`${name}: ${line}: ${error}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
  assert.ok(calls > 40, `${calls} calls`);
});

test('every command in running text exists, and parses when it has more than its words', async () => {
  const wrong: string[] = [];
  for (const name of pages) {
    for (const code of inlineCode(page(name))) {
      const short = /^(vm|image|kernel|daemon|operation) [a-z]/.test(code) ? `banger ${code}` : code;
      for (const argv of bangerCalls(short)) {
        const known = resolveWords(argv).words.length - 1;
        if (known === argv.length) continue;
        // Brackets mark what may be left out.
        const error = await usageErrorOf(argv.map((word) => word.replaceAll(/[[\]]/g, '')));
        const isOnlyFlags = argv.every((word) => word.startsWith('-'));
        if (error !== undefined || (known < 1 && !isOnlyFlags)) wrong.push(`${name}: ${code}: ${error}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test('npm scripts that are named exist', () => {
  const { scripts } = JSON.parse(page('package.json')) as {
    readonly scripts: Readonly<Record<string, string>>;
  };
  const named = pages.flatMap((name) =>
    [...page(name).matchAll(/npm run ([a-z]+)/g)].map(([, script = '']) => script),
  );
  assert.deepEqual(
    named.filter((script) => !Object.hasOwn(scripts, script)),
    [],
  );
  assert.ok(named.length > 5);
});

test('files of the repository that are named exist', () => {
  const missing = pages.flatMap((name) =>
    inlineCode(page(name))
      .filter((code) => /^(src|test|guest|bench|scripts|docs|bin|\.ci)\/[\w./-]*$/.test(code))
      .filter((path) => !path.includes('ID-') && !existsSync(join(repo, path)))
      .map((path) => `${name}: ${path}`),
  );
  assert.deepEqual(missing, []);
});

test('the map of src/ names every layer and files that are there', () => {
  const text = page('docs/architecture.md');
  const rows = text.split('\n').filter((line) => line.startsWith('| `src/'));
  const dirs = rows.map((row) => /^\| `src\/(\w+)\/`/.exec(row)?.[1] ?? '');
  assert.deepEqual(dirs.toSorted(), readdirSync(join(repo, 'src')).toSorted());
  for (const [index, row] of rows.entries()) {
    for (const [, file = ''] of (row.split('|')[2] ?? '').matchAll(/`([\w./-]+)`/g)) {
      assert.ok(existsSync(join(repo, 'src', dirs[index] ?? '', file)), `${dirs[index]}/${file}`);
    }
  }
});

test('the layer table is the one the architecture test obeys', () => {
  const source = page('test/architecture.test.ts');
  const table = /const MAY_IMPORT[^=]*= \{\n(.*?)^\};/ms.exec(source)?.[1] ?? '';
  const lines = [...table.matchAll(/^ {2}(\w+): \[([^\]]*)\],$/gm)];
  const obeyed = lines.map(([, layer, allowed = '']) => [
    layer,
    [...allowed.matchAll(/'(\w+)'/g)].map(([, name]) => name).join(', ') || 'nothing',
  ]);
  assert.equal(lines.map(([line]) => `${line}\n`).join(''), table, 'every line of MAY_IMPORT is understood');
  const written = tableRows(page('docs/architecture.md'), 'layer').map(([layer, allowed]) => [
    layer,
    allowed,
  ]);
  assert.deepEqual(written, obeyed);
  assert.ok(obeyed.length >= 12);
});

test('the table of states is the one in core', () => {
  const text = page('docs/vm.md');
  assert.ok(text.includes(`\n| action | ${VM_STATES.join(' | ')} |\n`), 'its header names the states');
  assert.deepEqual(
    tableRows(text, 'action'),
    VM_ACTIONS.map((action) => [
      action,
      ...VM_STATES.map((state) => (legalStates(action).includes(state) ? 'yes' : '-')),
    ]),
  );
});

test('every flag of every vm command is in docs/vm.md', async () => {
  const text = page('docs/vm.md');
  const vm = root.commands['vm'] as Group;
  const missing: string[] = [];
  const look = async (name: string, entry: Leaf, where: string): Promise<void> => {
    const { flags } = (await entry.load()).command;
    for (const flag of Object.keys(flags)) {
      if (!new RegExp(`--${flag}(?![a-z-])`).test(where)) missing.push(`vm ${name} --${flag}`);
    }
  };
  for (const [name, entry] of Object.entries(vm.commands)) {
    if (!isGroup(entry)) await look(name, entry, text);
    else {
      // A group has a page of its own.
      const where = page(pages.find((one) => one === `docs/${name}s.md`) ?? `docs/${name}.md`);
      for (const [word, leaf] of Object.entries(entry.commands)) {
        assert.ok(!isGroup(leaf), `vm ${name} ${word} is a group`);
        await look(`${name} ${word}`, leaf, where);
      }
    }
  }
  assert.deepEqual(missing, []);
});

test('every error code has its row and its section', () => {
  const text = page('docs/errors.md');
  assert.deepEqual(
    tableRows(text, 'code'),
    Object.entries(ERROR_CODES).map(([code, { exitStatus, rpcCode, anchor }]) => [
      `[\`${code}\`](#${anchor})`,
      String(exitStatus),
      String(rpcCode),
    ]),
  );
  const anchors = anchorsOf(text);
  for (const { anchor } of Object.values(ERROR_CODES)) assert.ok(anchors.has(anchor), anchor);
});

test('every RPC method has its row, with its parameters', () => {
  const shapeOf = (method: string) => Object.entries(paramsSchemas[method as Method].shape);
  assert.deepEqual(
    tableRows(page('docs/rpc.md'), 'method').map(([method, parameters, , long]) => [
      method,
      parameters,
      long,
    ]),
    Object.keys(paramsSchemas).map((method) => [
      `\`${method}\``,
      shapeOf(method)
        .map(([key, schema]) => `\`${key}${schema.safeParse(undefined).success ? '?' : ''}\``)
        .join(', '),
      LONG_METHODS.has(method as Method) ? 'yes' : '',
    ]),
  );
});

/** As the table of keys says it, in Markdown without links. */
function keyRows(): ReadonlyMap<string, { readonly value: string; readonly meaning: string }> {
  const plain = (cell: string): string => cell.replace(/\[([^\]]+)\]\([^)]+\)/g, '$1');
  return new Map(
    tableRows(page('docs/config.md'), 'key').map(([key = '', value = '', meaning = '']) => [
      key.replaceAll('`', ''),
      { value: plain(value), meaning: plain(meaning) },
    ]),
  );
}

test('every key of the configuration has its row, with its default and what it means', () => {
  const rows = keyRows();
  const leaves = leafKeys();
  for (const { path, description, fallback, otherwise } of leaves) {
    const value = fallback === undefined ? otherwise : `\`${JSON.stringify(fallback)}\``;
    assert.deepEqual(rows.get(path.join('.')), { value, meaning: description }, path.join('.'));
  }
  const tables = Object.keys(CONFIG_KEYS.shape).filter((key) =>
    leaves.every(({ path }) => path.join('.') !== key),
  );
  assert.deepEqual(
    [...rows.keys()].toSorted(),
    [...leaves.map(({ path }) => path.join('.')), ...tables].toSorted(),
  );
});

test('the example of the configuration is one, and has every key at the top', () => {
  const example = blocksOf(page('docs/config.md')).find(({ language }) => language === 'toml')?.lines ?? [];
  parseConfig(example.join('\n'), 'docs/config.md', {});
  for (const key of Object.keys(CONFIG_KEYS.shape))
    assert.ok(
      example.some((line) => line.startsWith(`${key} =`) || line === `[${key}]` || line === `[[${key}]]`),
      key,
    );
});

test('every environment variable the sources read is in docs/config.md', () => {
  const documented = page('docs/config.md');
  const read = globSync('src/**/*.ts', { cwd: repo })
    .filter((file) => !file.endsWith('.test.ts'))
    .flatMap((file) =>
      [...page(file).matchAll(/(?:\benv\[|xdg\(env, )'([A-Z_]+)'/g)].map(([, name = '']) => name),
    );
  assert.deepEqual(
    [...new Set(read)].filter((name) => !documented.includes(`\`${name}\``)),
    [],
  );
  assert.ok(read.includes('BANGER_HOME'));
});
