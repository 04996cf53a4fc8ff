/** All mistakes in a config.toml, each with its place and what is allowed there. */

import { parse, TomlError } from 'smol-toml';
import type { z } from 'zod';
import type { ConfigProblem } from '../core/model/config.ts';
import { type TomlPath, tomlPositions } from '../core/toml-position.ts';
import { CONFIG_KEYS, keysOf } from './config-keys.ts';
import { originalKeyHint } from './config-original.ts';

/** Beyond this many nobody reads on. */
const MAX_PROBLEMS = 100;

export type ConfigValues = z.output<typeof CONFIG_KEYS>;

/** `written` is the file's content as TOML has it; `values` what is read of it, with defaults. */
export type CheckedConfig =
  | { readonly values: ConfigValues; readonly written: unknown }
  | { readonly problems: readonly [ConfigProblem, ...ConfigProblem[]] };

/** `file` is for messages. What is wrong in the TOML itself is told alone: nothing is known of what follows. */
export function checkConfig(text: string, file: string): CheckedConfig {
  let written: unknown;
  try {
    written = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // The first line says what; the rest of the message draws the place, which is told already.
    const message = error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? 'not TOML';
    return { problems: [{ where: file, line: error.line, column: error.column, message, hint: null }] };
  }
  const checked = CONFIG_KEYS.safeParse(written);
  if (checked.success) return { values: checked.data, written };
  const [first, ...others] = checked.error.issues
    .slice(0, MAX_PROBLEMS)
    .flatMap((issue) => problemsOf(issue, text, file))
    .toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
  if (first === undefined) throw new Error('a failed check without an issue');
  return { problems: [first, ...others] };
}

/** At the place of a key. */
export function problemAt(
  text: string,
  file: string,
  path: TomlPath,
  message: string,
  hint: string | null = null,
): ConfigProblem {
  return { where: file, ...tomlPositions(text)(path), message, hint };
}

function problemsOf(issue: z.core.$ZodIssue, text: string, file: string): readonly ConfigProblem[] {
  const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)));
  if (issue.code !== 'unrecognized_keys') {
    return [problemAt(text, file, path, `${nameOf(path)}: ${issue.message}`)];
  }
  const table = nameOf(path);
  const where = table === '' ? '' : ` in [${table}]`;
  return issue.keys.slice(0, MAX_PROBLEMS).map((key) => {
    const hint =
      originalKeyHint([...path, key].join('.')) ?? `allowed: ${keysOf(path.map(String)).join(', ')}`;
    return problemAt(text, file, [...path, key], `unknown key ${JSON.stringify(key)}${where}`, hint);
  });
}

/** `a.b`; the n-th of a list is `list[n]`, counted from 1 as people do. */
function nameOf(path: TomlPath): string {
  return path
    .map((part, index) => (typeof part === 'number' ? `[${part + 1}]` : index === 0 ? part : `.${part}`))
    .join('');
}
