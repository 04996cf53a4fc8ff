/** All mistakes in a config.toml, each with its place and what is allowed there. */

import { parse, TomlError } from 'smol-toml';
import type { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import type { ConfigProblem } from '../core/model/config.ts';
import type { HostFacts } from '../core/policy/vm-policy.ts';
import { type Position, type TomlPath, tomlPositions, withoutMark } from '../core/toml-position.ts';
import { CONFIG_KEYS } from './config-keys.ts';
import { excessesIn } from './config-limits.ts';
import { unknownKeyHint } from './config-suggestion.ts';
import { notUtf8, syntaxHint } from './config-syntax.ts';

/** Beyond this many nobody reads on. */
const MAX_PROBLEMS = 100;
/** Of a key that is quoted in a message. */
const MAX_KEY = 64;

export type ConfigValues = z.output<typeof CONFIG_KEYS>;

type Problems = readonly [ConfigProblem, ...ConfigProblem[]];

/** `written` is the file's content as TOML has it; `values` what is read of it, with defaults. */
export type CheckedConfig =
  | { readonly values: ConfigValues; readonly written: unknown }
  | { readonly problems: Problems; readonly unlisted: number };

interface Mistake {
  readonly path: TomlPath;
  readonly message: string;
  /** What is allowed there. */
  readonly hint?: string;
  /** A key that there is not, in the table at `path`. */
  readonly unknown?: string;
}

/**
 * The first MAX_PROBLEMS, in the order of the file, and how many are left. `file` is for messages. What is wrong in the
 * TOML itself is told alone: nothing is known of what follows. Without `host` it may ask for anything.
 */
export function checkConfig(text: string, file: string, host: HostFacts | null): CheckedConfig {
  const unmarked = withoutMark(text);
  let written: unknown;
  try {
    written = parse(unmarked);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    return syntaxProblem(unmarked, file, error);
  }
  const garbled = notUtf8(unmarked);
  if (garbled !== undefined) return onlyProblem({ where: file, key: null, ...garbled });
  const checked = CONFIG_KEYS.safeParse(written);
  const excesses = host === null ? [] : excessesIn(written, host);
  if (checked.success && excesses.length === 0) return { values: checked.data, written };
  const position = tomlPositions(unmarked);
  const [first, ...others] = [...(checked.error?.issues.flatMap(mistakesOf) ?? []), ...excesses]
    .map((mistake) => ({ mistake, ...position(keyPath(mistake)) }))
    .toSorted((a, b) => a.line - b.line || a.column - b.column);
  if (first === undefined) throw new Error('a failed check without an issue');
  const listed = others.slice(0, MAX_PROBLEMS - 1);
  return {
    problems: [problemAt(file, first), ...listed.map((one) => problemAt(file, one))],
    unlisted: others.length - listed.length,
  };
}

function onlyProblem(problem: ConfigProblem): CheckedConfig {
  return { problems: [problem], unlisted: 0 };
}

/** What a command that cannot go on says: the first mistake, and how to see the others. `count` is of all. */
export function problemError(
  { where, line, column, message, hint }: ConfigProblem,
  count: number,
): BangerError {
  const place = line === null ? '' : `${where}:${line}:${column}: `;
  const others = count - 1;
  const more =
    others === 0
      ? []
      : [`${others} more ${others === 1 ? 'mistake' : 'mistakes'}: banger config check lists all`];
  const hints = [...(hint === null ? [] : [hint]), ...more];
  return new BangerError(
    'bad_request',
    `${place}${message}`,
    hints.length === 0 ? {} : { hint: hints.join('\n') },
  );
}

function syntaxProblem(text: string, file: string, error: TomlError): CheckedConfig {
  // The first line says what; the rest of the message draws the place, which is told already.
  const message = error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? 'not TOML';
  const { line, column } = error;
  const said = notUtf8(text, { line, column }) ?? { line, column, message, hint: syntaxHint(message) };
  return onlyProblem({ where: file, key: null, ...said });
}

function mistakesOf(issue: z.core.$ZodIssue): readonly Mistake[] {
  const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)));
  if (issue.code === 'custom') return [{ path, message: issue.message, ...hintOf(issue.params) }];
  if (issue.code !== 'unrecognized_keys') return [{ path, message: issue.message }];
  const table = path.length === 0 ? '' : ` in [${nameOf(path)}]`;
  return issue.keys.map((unknown) => ({
    path,
    message: `unknown key ${shortened(unknown)}${table}`,
    unknown,
  }));
}

/** As config-fields.ts gives it. */
function hintOf(params: z.core.$ZodIssueCustom['params']): { readonly hint?: string } {
  const hint: unknown = params?.['hint'];
  return typeof hint === 'string' ? { hint } : {};
}

function keyPath({ path, unknown }: Mistake): TomlPath {
  return unknown === undefined ? path : [...path, unknown];
}

function problemAt(
  file: string,
  { mistake, line, column }: Position & { readonly mistake: Mistake },
): ConfigProblem {
  const { path, message, unknown, hint = null } = mistake;
  const key = nameOf(keyPath(mistake));
  const place = { where: file, line, column, key };
  if (unknown === undefined) return { ...place, message: `${key}: ${message}`, hint };
  return { ...place, message, hint: unknownKeyHint(path.map(String), unknown) };
}

/** `a.b`; the n-th of a list is `list[n]`, counted from 1 as people do. */
function nameOf(path: TomlPath): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part + 1}]`;
      const name = /^[\w-]{1,64}$/.test(part) ? part : shortened(part);
      return index === 0 ? name : `.${name}`;
    })
    .join('');
}

function shortened(key: string): string {
  return JSON.stringify(key.length > MAX_KEY ? `${key.slice(0, MAX_KEY)}…` : key);
}
