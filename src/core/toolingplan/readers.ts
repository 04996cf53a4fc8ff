/** One reader per kind of file. Each takes any text and never throws: what it cannot use is a problem with its line. */

import { parse, TomlError } from 'smol-toml';
import { tomlPositions } from '../toml-position.ts';
import { isToolName, isVersion, MAX_TOOLS, type Reading, type ToolRequest } from './model.ts';
import { versionForRange } from './node-range.ts';

type Request = Omit<ToolRequest, 'file'>;
type Problem = Reading['problems'][number];

const MAX_SHOWN = 64;
const NOTHING: Reading = { requests: [], problems: [] };

/** Names that asdf has and mise calls otherwise. */
const ALIASES: Readonly<Record<string, string>> = { nodejs: 'node', golang: 'go' };

/** https://github.com/nodejs/Release */
const LTS_NAMES: Readonly<Record<string, string>> = {
  argon: '4',
  boron: '6',
  carbon: '8',
  dubnium: '10',
  erbium: '12',
  fermium: '14',
  gallium: '16',
  hydrogen: '18',
  iron: '20',
  jod: '22',
  krypton: '24',
};

/** Where there are several versions of one tool the first is the one that counts. */
export function readToolVersions(text: string): Reading {
  const requests: Request[] = [];
  const problems: Problem[] = [];
  for (const [index, words] of wordsByLine(text)) {
    const [name = '', ...versions] = words;
    if (versions.length === 0) problems.push({ line: index + 1, what: `${shown(name)} has no version` });
    else take(name, versions, index + 1, requests, problems);
  }
  return { requests, problems };
}

export function readMiseToml(text: string): Reading {
  const { document, problem } = parseToml(text);
  if (problem !== undefined) return { requests: [], problems: [problem], unreadable: true };
  const tools = tableAt(document, 'tools');
  const position = tomlPositions(text);
  const requests: Request[] = [];
  const problems: Problem[] = [];
  // More are of no use.
  for (const [name, value] of Object.entries(tools ?? {}).slice(0, MAX_TOOLS)) {
    const line = position(['tools', name]).line;
    const versions = versionsIn(value);
    if (versions.length === 0) problems.push({ line, what: `${shown(name)} has no version` });
    else take(name, versions, line, requests, problems);
  }
  return { requests, problems };
}

/** The `toolchain` line says more than the `go` line, which is a minimum. */
export function readGoMod(text: string): Reading {
  let found: Reading = NOTHING;
  for (const [index, words] of wordsByLine(text, '//')) {
    const [directive, version = ''] = words;
    if (directive !== 'go' && directive !== 'toolchain') continue;
    if (version === 'default' || version === 'none') continue;
    const reading = exact('go', version.replace(/^go/, ''), version, index + 1);
    if (directive === 'toolchain') return reading;
    found = reading;
  }
  return found;
}

/** `.nvmrc` and `.node-version`. */
export function readNodeVersion(text: string): Reading {
  const [index, words] = wordsByLine(text)[0] ?? [0, []];
  const asked = words[0];
  if (asked === undefined) return NOTHING;
  return exact('node', nodeVersion(asked), asked, index + 1);
}

function nodeVersion(asked: string): string {
  const word = asked.toLowerCase();
  if (word === 'lts/*' || word === 'lts/latest') return 'lts';
  if (word === 'node' || word === 'stable' || word === 'current') return 'latest';
  if (word.startsWith('lts/')) {
    const name = word.slice('lts/'.length);
    return Object.hasOwn(LTS_NAMES, name) ? (LTS_NAMES[name] ?? '') : asked;
  }
  return asked.replace(/^v(?=\d)/, '');
}

/** pyenv reads several, one per line; the first is `python`. */
export function readPythonVersion(text: string): Reading {
  const [index, words] = wordsByLine(text)[0] ?? [0, []];
  const asked = words[0];
  if (asked === undefined || asked === 'system') return NOTHING;
  return exact('python', asked.replace(/^(?:python-)?v?(?=\d)/, ''), asked, index + 1);
}

/** `rust-toolchain` may hold a bare channel, or TOML as `rust-toolchain.toml` does. */
export function readRustToolchain(text: string): Reading {
  const lines = wordsByLine(text);
  const [index, words] = lines[0] ?? [0, []];
  const [only] = words;
  if (lines.length === 1 && words.length === 1 && only !== undefined && !only.startsWith('[')) {
    return exact('rust', only, only, index + 1);
  }
  const { document, problem } = parseToml(text);
  if (problem !== undefined) return { requests: [], problems: [problem] };
  const channel = tableAt(document, 'toolchain')?.['channel'];
  if (typeof channel !== 'string') return NOTHING;
  return exact('rust', channel, channel, tomlPositions(text)(['toolchain', 'channel']).line);
}

/** `volta` pins; `engines` is a range; `packageManager` names pnpm, yarn or bun. npm comes with Node. */
export function readPackageJson(text: string): Reading {
  let document: unknown;
  try {
    document = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch {
    return { requests: [], problems: [{ line: 1, what: 'not JSON' }] };
  }
  const managers = packageManager(text, tableAt(document, '')?.['packageManager']);
  const pins = tableAt(document, 'volta');
  const readings = [managers];
  for (const tool of ['node', 'pnpm', 'yarn']) {
    const pin = pins?.[tool];
    if (typeof pin === 'string') readings.push(exact(tool, pin, pin, jsonLine(text, 'volta', tool)));
  }
  const range = tableAt(document, 'engines')?.['node'];
  if (typeof range === 'string') readings.push(engine(range, jsonLine(text, 'engines', 'node')));
  return {
    requests: readings.flatMap(({ requests }) => requests),
    problems: readings.flatMap(({ problems }) => problems),
  };
}

function engine(range: string, line: number): Reading {
  const version = versionForRange(range);
  if (version === null) return NOTHING;
  if (version === undefined) return wrong(line, `engines.node: ${shown(range)} is not a range of versions`);
  return { requests: [{ tool: 'node', version, asked: range, line }], problems: [] };
}

function packageManager(text: string, value: unknown): Reading {
  if (typeof value !== 'string') return NOTHING;
  const [, tool = '', version = ''] = /^([a-z]+)@([^+]+)/.exec(value) ?? [];
  if (tool !== 'pnpm' && tool !== 'yarn' && tool !== 'bun') return NOTHING;
  return exact(tool, version, `${tool}@${version}`, jsonLine(text, 'packageManager'));
}

function exact(tool: string, version: string, asked: string, line: number): Reading {
  if (!isVersion(version)) return wrong(line, `${shown(asked)} is not a version`);
  return { requests: [{ tool, version, asked, line }], problems: [] };
}

function wrong(line: number, what: string): Reading {
  return { requests: [], problems: [{ line, what }] };
}

/** Of mise's and asdf's own files, which mise reads itself: this is for people. */
function take(
  name: string,
  versions: readonly string[],
  line: number,
  requests: Request[],
  problems: Problem[],
): void {
  const tool = Object.hasOwn(ALIASES, name) ? (ALIASES[name] ?? name) : name;
  const [version = ''] = versions;
  const asked = versions.filter(isVersion).join(' ').slice(0, MAX_SHOWN);
  if (!isToolName(tool)) problems.push({ line, what: `${shown(name)} is not the name of a tool` });
  else if (!isVersion(version)) problems.push({ line, what: `${shown(version)} is not a version` });
  else requests.push({ tool, version, asked, line });
}

/** A version, a table with one, or a list of either. */
function versionsIn(value: unknown): readonly string[] {
  if (typeof value === 'string') return [value];
  if (typeof value === 'number') return [String(value)];
  if (Array.isArray(value))
    return value.flatMap((one: unknown) => (Array.isArray(one) ? [] : versionsIn(one)));
  const version = tableAt(value, '')?.['version'];
  return typeof version === 'string' ? [version] : [];
}

/** The words of lines that have any, without comments. */
function wordsByLine(text: string, comment = '#'): readonly (readonly [number, readonly string[]])[] {
  return text.split('\n').flatMap((line, index) => {
    const words = (line.split(comment)[0] ?? '').split(/\s+/).filter((word) => word !== '');
    return words.length === 0 ? [] : [[index, words] as const];
  });
}

function parseToml(text: string): { readonly document?: unknown; readonly problem?: Problem } {
  try {
    return { document: parse(text) };
  } catch (error) {
    // Deep nesting overflows the parser's stack.
    return { problem: { line: error instanceof TomlError ? error.line : 1, what: 'not TOML' } };
  }
}

/** The table of that name, or the value itself for an empty one; undefined when that is no table. */
function tableAt(value: unknown, name: string): Readonly<Record<string, unknown>> | undefined {
  const inner = name === '' ? value : tableAt(value, '')?.[name];
  return typeof inner === 'object' && inner !== null && !Array.isArray(inner)
    ? (inner as Readonly<Record<string, unknown>>)
    : undefined;
}

/** The line of the first of these keys, and of the second behind it. Good enough for files that people write. */
function jsonLine(text: string, key: string, inner?: string): number {
  let at = Math.max(0, text.search(new RegExp(`"${key}"\\s*:`)));
  if (inner !== undefined) at += Math.max(0, text.slice(at).search(new RegExp(`"${inner}"\\s*:`)));
  return text.slice(0, at).split('\n').length;
}

function shown(text: string): string {
  const short = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
  return JSON.stringify(short.replace(/[^\x20-\x7e…]/g, '?'));
}
