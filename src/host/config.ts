/** config.toml: read, checked, and every mistake told with its line, its column and what is allowed there. */

import { parse, TomlError } from 'smol-toml';
import type { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import type { AcceleratorChoice, DriverName } from '../core/model/vm.ts';
import type { VmSizing } from '../core/policy/vm-policy.ts';
import { CONFIG_KEYS, keysOf } from './config-keys.ts';
import { readTextFile } from './files.ts';
import { LOG_LEVELS, type LogLevel } from './log-level.ts';
import { locateKey, type Position } from '../core/toml-position.ts';

export interface Config {
  readonly logLevel: LogLevel;
  readonly defaultImageName: string;
  readonly accel: AcceleratorChoice;
  /** What VMs are started with. */
  readonly driver: DriverName;
  /** Absolute path of the QEMU program; null: from PATH. */
  readonly qemuBin: string | null;
  /** Absolute path of the Firecracker program; null: from PATH. */
  readonly firecrackerBin: string | null;
  readonly statsPollIntervalMs: number;
  /** VMs that nobody touched for this long are stopped; 0: never. */
  readonly autoStopStaleAfterMs: number;
  /** A snapshot of the state is taken this often, when the state has changed; 0: never. */
  readonly stateSnapshotIntervalMs: number;
  /** VMs that nobody uses stand still after this long; 0: never. */
  readonly idlePauseAfterMs: number;
  /** … and are saved to disk after this long; 0: never. */
  readonly idleSaveAfterMs: number;
  /** Blocks on the disk that all memory templates may occupy together; 0: there are none. */
  readonly templatesMaxBytes: number;
  /** Keep a machine restored and paused for the next VM. */
  readonly templatesStandby: boolean;
  /** What the file says; the rest is policy: core/policy/vm-policy.ts. */
  readonly vmDefaults: VmSizing;
}

const MAX_CONFIG_BYTES = 256 * 1024;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the file; a missing one means the defaults. BANGER_LOG_LEVEL overrides log_level.
 * @throws {BangerError} `bad_request` with file, line, column and what is allowed; `limit_exceeded`, `io_error`
 */
export async function loadConfig(file: string, env: Environment): Promise<Config> {
  const text = await readTextFile(file, MAX_CONFIG_BYTES);
  const config = text === undefined ? DEFAULT_CONFIG : parseConfig(text, file, env);
  const override = env['BANGER_LOG_LEVEL'];
  if (override === undefined || override === '') return config;
  const level = CONFIG_KEYS.shape.log_level.safeParse(override);
  if (level.success) return { ...config, logLevel: level.data };
  const allowed = LOG_LEVELS.join(', ');
  throw new BangerError(
    'bad_request',
    `BANGER_LOG_LEVEL is ${JSON.stringify(override)}; allowed: ${allowed}`,
  );
}

/** As `loadConfig`, of a text that was read already; `file` is for messages, `env` for `~/`. */
export function parseConfig(text: string, file: string, env: Environment): Config {
  const parsed = CONFIG_KEYS.safeParse(parseToml(text, file));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    if (issue === undefined) throw new Error('a failed check without an issue');
    throw issueError(text, file, issue);
  }
  return toConfig(parsed.data, env);
}

/** What is read of a file; absent keys are their defaults by now. */
function toConfig(values: z.output<typeof CONFIG_KEYS>, env: Environment): Config {
  const { vm_defaults: sizes, idle, templates } = values;
  const memoryMib = sizes.memory ?? sizes.memory_mib;
  const path = (written: string | undefined) => (written === undefined ? null : expandHome(written, env));
  return {
    logLevel: values.log_level,
    defaultImageName: values.default_image_name,
    accel: values.accel,
    driver: values.driver,
    qemuBin: path(values.qemu_bin),
    firecrackerBin: path(values.firecracker_bin),
    statsPollIntervalMs: values.stats_poll_interval,
    autoStopStaleAfterMs: values.auto_stop_stale_after,
    stateSnapshotIntervalMs: values.state_snapshot_interval,
    idlePauseAfterMs: idle.pause_after,
    idleSaveAfterMs: idle.save_after,
    templatesMaxBytes: templates.max_size,
    templatesStandby: templates.standby,
    vmDefaults: {
      ...(sizes.vcpu === undefined ? {} : { vcpus: sizes.vcpu }),
      ...(memoryMib === undefined ? {} : { memoryMib }),
      ...(sizes.disk_size === undefined ? {} : { diskSizeBytes: sizes.disk_size }),
    },
  };
}

export const DEFAULT_CONFIG: Config = toConfig(CONFIG_KEYS.parse({}), {});

function parseToml(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // The first line says what; the rest of the message draws the place, which is in front already.
    const what = error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? 'not TOML';
    throw at(file, { line: error.line, column: error.column }, what);
  }
}

function issueError(text: string, file: string, issue: z.core.$ZodIssue): BangerError {
  const path = issue.path.map(String);
  if (issue.code !== 'unrecognized_keys') {
    return at(file, locateKey(text, path), `${path.join('.')}: ${issue.message}`);
  }
  const key = issue.keys[0] ?? '';
  const table = path.join('.');
  const where = table === '' ? '' : ` in [${table}]`;
  const allowed = keysOf(path).join(', ');
  return at(
    file,
    locateKey(text, [...path, key]),
    `unknown key ${JSON.stringify(key)}${where}`,
    `allowed: ${allowed}`,
  );
}

function at(file: string, position: Position, what: string, hint?: string): BangerError {
  const options = hint === undefined ? {} : { hint };
  return new BangerError('bad_request', `${file}:${position.line}:${position.column}: ${what}`, options);
}

function expandHome(path: string, env: Environment): string {
  return path.startsWith('~/') ? `${env['HOME'] ?? ''}${path.slice(1)}` : path;
}
