/** config.toml: read, checked, and every mistake told with its line, its column and what is allowed there. */

import { parse, TomlError } from 'smol-toml';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import { ACCELERATORS, type AcceleratorChoice, DRIVER_NAMES, type DriverName } from '../core/model/vm.ts';
import { assertImageName } from '../core/names.ts';
import type { VmSizing } from '../core/policy/vm-policy.ts';
import { MIB, parseDuration, parseSize } from '../core/units.ts';
import { readTextFile } from './files.ts';
import { LOG_LEVELS, type LogLevel } from './log-level.ts';
import { locateKey, type Position } from './toml-position.ts';

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

export const DEFAULT_CONFIG: Config = {
  logLevel: 'info',
  defaultImageName: 'debian-bookworm',
  accel: 'auto',
  driver: 'qemu',
  qemuBin: null,
  firecrackerBin: null,
  statsPollIntervalMs: 10_000,
  autoStopStaleAfterMs: 0,
  stateSnapshotIntervalMs: 24 * 60 * 60 * 1000,
  idlePauseAfterMs: 30 * 60_000,
  idleSaveAfterMs: 0,
  templatesMaxBytes: 4 * 1024 * MIB,
  templatesStandby: true,
  vmDefaults: {},
};

const MAX_CONFIG_BYTES = 256 * 1024;
const MIN_POLL_MS = 1000;
const MIN_SNAPSHOT_MS = 60_000;

/** A BangerError of a parser of ours becomes an issue of zod's at the same place. */
function readWith<In, Out>(schema: z.ZodType<In>, read: (value: In) => Out) {
  return schema.transform((value, context): Out => {
    try {
      return read(value);
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      context.addIssue({
        code: 'custom',
        message: error.hint === undefined ? error.message : `${error.message} (${error.hint})`,
      });
      return z.NEVER;
    }
  });
}

const size = readWith(z.string({ error: 'must be a text like "8GiB"' }), (text) => parseSize(text));
const sizeOrNone = readWith(
  z.union([z.string(), z.literal(0)], { error: 'must be a text like "8GiB", or 0' }),
  (value) => (value === 0 ? 0 : parseSize(value)),
);
const duration = readWith(
  z.union([z.string(), z.literal(0)], { error: 'must be a text like "10s" or "1h30m", or 0' }),
  (value) => (value === 0 ? 0 : parseDuration(value)),
);
/** Looked at every few seconds. */
const idleTime = duration.refine((ms) => ms === 0 || ms >= MIN_POLL_MS, {
  error: `must be at least ${MIN_POLL_MS / 1000}s, or 0`,
});
const whole = z.int({ error: 'must be a whole number' }).min(1, { error: 'must be at least 1' });
const programPath = z
  .string({ error: 'must be a path' })
  .regex(/^(?:\/|~\/)[^\0]+$/, { error: 'must be an absolute path, or one below "~/"' });
const oneOf = <const T extends readonly [string, ...string[]]>(values: T) =>
  z.enum(values, { error: `must be one of ${values.map((value) => `"${value}"`).join(', ')}` });

const schema = z.strictObject({
  log_level: oneOf(LOG_LEVELS).optional(),
  default_image_name: readWith(z.string({ error: 'must be the name of an image' }), (name) => {
    assertImageName(name);
    return name;
  }).optional(),
  accel: oneOf(['auto', ...ACCELERATORS]).optional(),
  driver: oneOf(DRIVER_NAMES).optional(),
  qemu_bin: programPath.optional(),
  firecracker_bin: programPath.optional(),
  stats_poll_interval: duration
    .refine((ms) => ms >= MIN_POLL_MS, { error: `must be at least ${MIN_POLL_MS / 1000}s` })
    .optional(),
  auto_stop_stale_after: duration.optional(),
  state_snapshot_interval: duration
    .refine((ms) => ms === 0 || ms >= MIN_SNAPSHOT_MS, {
      error: `must be at least ${MIN_SNAPSHOT_MS / 60_000}m, or 0`,
    })
    .optional(),
  vm_defaults: z
    .strictObject(
      {
        vcpu: whole.optional(),
        memory_mib: whole.optional(),
        memory: size
          .refine((bytes) => bytes > 0 && bytes % MIB === 0, { error: 'must be a whole number of MiB' })
          .optional(),
        disk_size: size.refine((bytes) => bytes > 0, { error: 'must be larger than 0' }).optional(),
      },
      { error: tableError('vm_defaults') },
    )
    .refine((table) => table.memory === undefined || table.memory_mib === undefined, {
      path: ['memory'],
      error: 'is given twice: as memory and as memory_mib',
    })
    .optional(),
  idle: z
    .strictObject(
      { pause_after: idleTime.optional(), save_after: idleTime.optional() },
      { error: tableError('idle') },
    )
    .optional(),
  templates: z
    .strictObject(
      { max_size: sizeOrNone.optional(), standby: z.boolean({ error: 'must be true or false' }).optional() },
      { error: tableError('templates') },
    )
    .optional(),
});

function tableError(name: string) {
  return (issue: { readonly code?: string | undefined }): string | undefined =>
    issue.code === 'invalid_type' ? `must be a table: [${name}]` : undefined;
}

const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  '': Object.keys(schema.shape),
  vm_defaults: Object.keys(schema.shape.vm_defaults.unwrap().shape),
  idle: Object.keys(schema.shape.idle.unwrap().shape),
  templates: Object.keys(schema.shape.templates.unwrap().shape),
};

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
  const level = schema.shape.log_level.safeParse(override);
  if (level.success) return { ...config, logLevel: level.data ?? config.logLevel };
  const allowed = LOG_LEVELS.join(', ');
  throw new BangerError(
    'bad_request',
    `BANGER_LOG_LEVEL is ${JSON.stringify(override)}; allowed: ${allowed}`,
  );
}

/** As `loadConfig`, of a text that was read already; `file` is for messages, `env` for `~/`. */
export function parseConfig(text: string, file: string, env: Environment): Config {
  const parsed = schema.safeParse(parseToml(text, file));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    if (issue === undefined) throw new Error('a failed check without an issue');
    throw issueError(text, file, issue);
  }
  const { vm_defaults: table = {}, ...top } = parsed.data;
  const memoryMib = table.memory === undefined ? table.memory_mib : table.memory / MIB;
  return {
    logLevel: top.log_level ?? DEFAULT_CONFIG.logLevel,
    defaultImageName: top.default_image_name ?? DEFAULT_CONFIG.defaultImageName,
    accel: top.accel ?? DEFAULT_CONFIG.accel,
    driver: top.driver ?? DEFAULT_CONFIG.driver,
    qemuBin: top.qemu_bin === undefined ? null : expandHome(top.qemu_bin, env),
    firecrackerBin: top.firecracker_bin === undefined ? null : expandHome(top.firecracker_bin, env),
    statsPollIntervalMs: top.stats_poll_interval ?? DEFAULT_CONFIG.statsPollIntervalMs,
    autoStopStaleAfterMs: top.auto_stop_stale_after ?? DEFAULT_CONFIG.autoStopStaleAfterMs,
    stateSnapshotIntervalMs: top.state_snapshot_interval ?? DEFAULT_CONFIG.stateSnapshotIntervalMs,
    idlePauseAfterMs: top.idle?.pause_after ?? DEFAULT_CONFIG.idlePauseAfterMs,
    idleSaveAfterMs: top.idle?.save_after ?? DEFAULT_CONFIG.idleSaveAfterMs,
    templatesMaxBytes: top.templates?.max_size ?? DEFAULT_CONFIG.templatesMaxBytes,
    templatesStandby: top.templates?.standby ?? DEFAULT_CONFIG.templatesStandby,
    vmDefaults: {
      ...(table.vcpu === undefined ? {} : { vcpus: table.vcpu }),
      ...(memoryMib === undefined ? {} : { memoryMib }),
      ...(table.disk_size === undefined ? {} : { diskSizeBytes: table.disk_size }),
    },
  };
}

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
  const allowed = (ALLOWED[table] ?? []).join(', ');
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
