import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { resolveWords } from '../../src/cli/app.ts';
import type { Example } from '../../src/cli/command.ts';
import { type Group, isGroup, type Leaf, root } from '../../src/cli/tree.ts';
import { fakeCli } from './fake-cli.ts';

const repo = join(import.meta.dirname, '../..');

function walk(
  entry: Group | Leaf,
  words: readonly string[] = [],
): { words: readonly string[]; entry: Group | Leaf }[] {
  const below = isGroup(entry)
    ? Object.entries(entry.commands).flatMap(([name, child]) => walk(child, [...words, name]))
    : [];
  return [{ words, entry }, ...below];
}

const everything = walk(root);
const leaves = everything.flatMap(({ words, entry }) => (isGroup(entry) ? [] : [{ words, leaf: entry }]));

test('every command and group has help that can be learnt from', async () => {
  for (const { words, entry } of everything) {
    const { status, stdout, stderr } = await fakeCli([...words, '--help']);
    const name = ['banger', ...words].join(' ');
    assert.equal(status, 0, name);
    assert.equal(stderr, '', name);
    const usage = `${entry.brief}.\n\nUSAGE\n  ${name}`;
    assert.ok(stdout.startsWith(usage), `${name}: ${stdout.slice(0, 200)}`);
    assert.match(stdout.slice(usage.length), /^[ \n]/, name);
    assert.match(stdout, /\nEXAMPLES\n {2}\S/, name);
    assert.match(stdout, /-h, --help/, name);
    const long = stdout.split('\n').filter((line) => line.length > 140);
    assert.deepEqual(long, [], name);
  }
});

test('the root help names every command that is not hidden', async () => {
  const { stdout } = await fakeCli(['--help']);
  for (const { words, leaf } of leaves) {
    const line = `  ${words.join(' ')} `;
    assert.equal(stdout.includes(line), leaf.hidden !== true, line);
  }
});

test('briefs are one line, without a full stop, beginning with a capital', () => {
  for (const { words, entry } of everything) {
    assert.match(entry.brief, /^[A-Z][^\n]*[^.\n]$/, words.join(' '));
  }
});

test('every example is a valid command line', async () => {
  for (const { line } of await allExamples()) {
    const argv = bangerWords(line);
    const { stderr, status } = await fakeCli(argv, {
      stdinIsTTY: true,
      // Otherwise `logs -f` follows for ever.
      onInterruptible: (interrupt) => setImmediate(interrupt),
    });
    assert.notEqual(status, 2, `${line}: ${stderr}`);
  }
});

async function allExamples(): Promise<Example[]> {
  const own = await Promise.all(leaves.map(async ({ leaf }) => (await leaf.load()).command.examples));
  const groups = everything.flatMap(({ entry }) => (isGroup(entry) ? entry.examples : []));
  return [...groups, ...own.flat()];
}

/** The words after `banger` in a shell line, up to a pipe or redirection. Enough of a shell for our examples. */
function bangerWords(line: string): string[] {
  const match = /(?:^|[(;|] *)banger (.*)$/.exec(line);
  assert.ok(match?.[1], `no banger in: ${line}`);
  const words = match[1].split(/ [|>] |\)/)[0] ?? '';
  return (words.match(/'[^']*'|"[^"]*"|\S+/g) ?? []).map((word) => word.replace(/^(['"])(.*)\1$/, '$2'));
}

test('every command named in help, hints, messages and docs exists', async () => {
  const helpTexts = await Promise.all(
    everything.map(async ({ words }) => ({
      file: `help of ${words.join(' ')}`,
      text: (await fakeCli([...words, '--help'])).stdout,
    })),
  );
  const texts = [...helpTexts, ...files('src', /(?<!\.test)\.ts$/), ...files('docs', /\.md$/), ...readme()];
  const wrong = texts.flatMap(({ file, text }) =>
    namedCommands(text, file.endsWith('.md'))
      .filter((words) => !exists(words))
      .map((words) => `${file}: banger ${words.join(' ')}`),
  );
  assert.deepEqual(wrong, []);
  assert.ok(texts.some(({ text }) => namedCommands(text, true).length > 0));
});

test('the search for named commands finds the wrong ones', () => {
  const found = namedCommands(
    'try `banger vm strat dev`, "banger system restart" or: banger image pull x; hint: `banger up`',
    true,
  );
  assert.deepEqual(
    new Set(found.filter((words) => !exists(words)).map((words) => words[0])),
    new Set(['image', 'system', 'up', 'vm']),
  );
});

/**
 * `banger WORD [WORD]` where the first word is a command or group of ours, or the whole is quoted or a hint.
 * Prose (banger itself failed) is left alone. Backticks quote in Markdown only.
 */
function namedCommands(text: string, markdown: boolean): string[][] {
  const inBackticks = markdown ? [...text.matchAll(/`banger ([a-z_][a-z_-]*)(?: ([a-z][a-z-]*))?/g)] : [];
  const inQuotes = [...text.matchAll(/(?:"|hint: ['`]|run: )banger ([a-z_][a-z_-]*)(?: ([a-z][a-z-]*))?/g)];
  const known = [...text.matchAll(/\bbanger ([a-z_][a-z_-]*)(?: ([a-z][a-z-]*))?/g)].filter(([, word]) =>
    Object.hasOwn(root.commands, word ?? ''),
  );
  return [...inBackticks, ...inQuotes, ...known].map(([, first = '', second]) => [
    first,
    ...(second === undefined ? [] : [second]),
  ]);
}

function exists(words: readonly string[]): boolean {
  const [first = '', second] = words;
  if (first === 'help') return true;
  const entry = root.commands[first];
  if (entry === undefined) return false;
  if (!isGroup(entry) || second === undefined) return true;
  return resolveWords([first, second]).words.length === 3;
}

function files(dir: string, pattern: RegExp): { file: string; text: string }[] {
  return readdirSync(join(repo, dir), { recursive: true, encoding: 'utf8' })
    .filter((name) => pattern.test(name))
    .map((name) => ({ file: join(dir, name), text: readFileSync(join(repo, dir, name), 'utf8') }));
}

function readme(): { file: string; text: string }[] {
  return readdirSync(repo)
    .filter((name) => name === 'README.md')
    .map((name) => ({ file: name, text: readFileSync(join(repo, name), 'utf8') }));
}
