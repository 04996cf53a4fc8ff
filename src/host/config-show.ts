/** Every setting with what holds for it, and where that comes from. */

import { createHash } from 'node:crypto';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import type { ConfigChecked, ConfigEntry, ConfigProblem, ConfigShown } from '../core/model/config.ts';
import { type HostFacts, type SourcedValue, vmPolicy } from '../core/policy/vm-policy.ts';
import { tomlPositions } from '../core/toml-position.ts';
import { GIB, MIB } from '../core/units.ts';
import { type Config, DEFAULT_CONFIG, LOG_LEVEL_VARIABLE, toConfig, withEnvironment } from './config.ts';
import { checkConfig, problemError } from './config-check.ts';
import { CONFIG_KEYS, leafKeys } from './config-keys.ts';
import { valueAt } from './config-limits.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface ConfigText {
  readonly file: string;
  /** Undefined: there is no such file. */
  readonly text: string | undefined;
  readonly env: Environment;
  readonly host: HostFacts;
}

/** @throws {BangerError} `bad_request` with the first of `problemsIn` */
export function configOf(given: ConfigText): Config {
  return read(given).config;
}

function read(given: ConfigText): { readonly config: Config; readonly written: unknown } {
  const { file, text = '', env, host } = given;
  const checked = checkConfig(text, file, host);
  if ('values' in checked) {
    return { config: withEnvironment(toConfig(checked.values, env), env), written: checked.written };
  }
  const { problems, unlisted } = checked;
  throw problemError(problems[0], problems.length + unlisted + environmentProblems(env).length);
}

/** @throws {BangerError} `bad_request`, as `configOf` */
export function showConfig(given: ConfigText): ConfigShown {
  const { text = '', env, host } = given;
  const { config, written } = read(given);
  const position = tomlPositions(text);
  const sizes = vmPolicy(config, host).defaults;
  const derived: Readonly<Record<string, SourcedValue>> = {
    'vm_defaults.vcpu': sizes.vcpus,
    'vm_defaults.memory': { ...sizes.memoryMib, value: sizes.memoryMib.value * MIB },
    'vm_defaults.disk_size': sizes.diskSizeBytes,
  };
  const entries = leafKeys().flatMap(
    ({ path, fallback, otherwise }): ConfigEntry | readonly ConfigEntry[] => {
      const key = path.join('.');
      if (key === 'log_level' && isSet(env[LOG_LEVEL_VARIABLE])) {
        const value = config.logLevel;
        return { key, value, source: 'environment', line: null, column: null, note: LOG_LEVEL_VARIABLE };
      }
      const value = valueAt(written, path);
      if (value !== undefined) return { key, value, source: 'file', ...position(path), note: null };
      const size = derived[key];
      const nowhere = { line: null, column: null };
      if (size !== undefined) {
        // The same was written as a number of MiB.
        if (size.source === 'config') return [];
        const source = size.source === 'auto' ? 'auto' : 'default';
        return { key, value: sizeText(key, size.value), source, ...nowhere, note: null };
      }
      if (otherwise === '') return [];
      return { key, value: fallback ?? null, source: 'default', ...nowhere, note: otherwise ?? null };
    },
  );
  return { file: given.file, exists: given.text !== undefined, entries, digest: digestOf(config) };
}

/** All mistakes: in the file, in what it asks of this host, and in the environment. */
export function problemsIn({
  file,
  text = '',
  env,
  host,
}: ConfigText): Pick<ConfigChecked, 'problems' | 'unlisted'> {
  const checked = checkConfig(text, file, host);
  const environment = environmentProblems(env);
  if ('values' in checked) return { problems: environment, unlisted: 0 };
  return { problems: [...checked.problems, ...environment], unlisted: checked.unlisted };
}

/** JSON Schema, draft 2020-12, of what may be written in the file. */
export function configSchema(): object {
  const schema = z.toJSONSchema(CONFIG_KEYS, { io: 'input', target: 'draft-2020-12' });
  return { ...schema, title: 'config.toml of banger' };
}

function environmentProblems(env: Environment): readonly ConfigProblem[] {
  try {
    withEnvironment(DEFAULT_CONFIG, env);
    return [];
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    const { message, hint = null } = error;
    return [{ where: LOG_LEVEL_VARIABLE, line: null, column: null, key: null, message, hint }];
  }
}

function sizeText(key: string, value: number): unknown {
  if (key === 'vm_defaults.vcpu') return value;
  return value % GIB === 0 ? `${value / GIB}GiB` : `${value / MIB}MiB`;
}

function digestOf(config: Config): string {
  return createHash('sha256').update(JSON.stringify(config)).digest('hex');
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '';
}
