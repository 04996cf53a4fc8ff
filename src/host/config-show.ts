/** Every setting with what holds for it, and where that comes from. */

import { createHash } from 'node:crypto';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import type { ConfigEntry, ConfigProblem, ConfigShown } from '../core/model/config.ts';
import { checkVmSpec, type HostFacts, type SourcedValue, vmPolicy } from '../core/policy/vm-policy.ts';
import { tomlPositions } from '../core/toml-position.ts';
import { GIB, MIB } from '../core/units.ts';
import { type Config, LOG_LEVEL_VARIABLE, parseConfig, withEnvironment } from './config.ts';
import { checkConfig, type ConfigValues, problemAt } from './config-check.ts';
import { CONFIG_KEYS, leafKeys } from './config-keys.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface ConfigText {
  readonly file: string;
  /** Undefined: there is no such file. */
  readonly text: string | undefined;
  readonly env: Environment;
  readonly host: HostFacts;
}

/** @throws {BangerError} `bad_request`, as `loadConfig` */
export function configOf({ file, text = '', env }: ConfigText): Config {
  return withEnvironment(parseConfig(text, file, env), env);
}

/** @throws {BangerError} `bad_request`, as `loadConfig` */
export function showConfig(given: ConfigText): ConfigShown {
  const { file, text = '', env, host } = given;
  const config = configOf(given);
  const checked = checkConfig(text, file);
  const written = 'written' in checked ? checked.written : {};
  const sizes = vmPolicy(config, host).defaults;
  const position = tomlPositions(text);
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
  return { file, exists: given.text !== undefined, entries, digest: digestOf(config) };
}

/** All mistakes: in the file, in the environment, and in what the file asks of this host. */
export function problemsIn({ file, text = '', env, host }: ConfigText): readonly ConfigProblem[] {
  const environment = environmentProblems(env);
  const checked = checkConfig(text, file);
  if ('problems' in checked) return [...checked.problems, ...environment];
  return [...sizeProblems(checked.values, text, file, host), ...environment];
}

/** JSON Schema, draft 2020-12, of what may be written in the file. */
export function configSchema(): object {
  const schema = z.toJSONSchema(CONFIG_KEYS, { io: 'input', target: 'draft-2020-12' });
  return { ...schema, title: 'config.toml of banger' };
}

function environmentProblems(env: Environment): readonly ConfigProblem[] {
  try {
    withEnvironment(parseConfig('', '', env), env);
    return [];
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    const { message, hint = null } = error;
    return [{ where: LOG_LEVEL_VARIABLE, line: null, column: null, message, hint }];
  }
}

function sizeProblems(
  { vm_defaults: sizes }: ConfigValues,
  text: string,
  file: string,
  host: HostFacts,
): readonly ConfigProblem[] {
  const policy = vmPolicy({ vmDefaults: {}, accel: 'auto' }, host);
  const asked = [
    ['vcpu', { vcpus: sizes.vcpu }],
    ['memory', { memoryMib: sizes.memory }],
    ['memory_mib', { memoryMib: sizes.memory_mib }],
    ['disk_size', { diskSizeBytes: sizes.disk_size }],
  ] as const;
  return asked.flatMap(([key, sizing]) => {
    if (Object.values(sizing)[0] === undefined) return [];
    try {
      checkVmSpec(sizing as Parameters<typeof checkVmSpec>[0], policy);
      return [];
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      return [problemAt(text, file, ['vm_defaults', key], `vm_defaults.${key}: ${error.message}`)];
    }
  });
}

function valueAt(written: unknown, path: readonly string[]): unknown {
  let value = written;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Readonly<Record<string, unknown>>)[part];
  }
  return value;
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
