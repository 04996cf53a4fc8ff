/** config.toml: read, checked, and every mistake told with its line, its column and what is allowed there. */

import { BangerError } from '../core/errors.ts';
import type { AcceleratorChoice, DriverName } from '../core/model/vm.ts';
import type { VmSizing } from '../core/policy/vm-policy.ts';
import { checkConfig, type ConfigValues, problemError } from './config-check.ts';
import { CONFIG_KEYS } from './config-keys.ts';
import type { FileSyncEntry } from './file-sync-config.ts';
import { readTextFile } from './files.ts';
import type { LoopbackEnd } from './loopback-end.ts';
import { LOG_LEVELS, type LogLevel } from './log-level.ts';

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
  /** Absolute path of the user's own ssh key; null: one that is made for banger. */
  readonly sshKeyPath: string | null;
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
  /** Outbound network of VMs that are asked for without a word about it. */
  readonly natByDefault: boolean;
  /** What programs in VMs listen on appears on their own addresses by itself. */
  readonly portsAutoForward: boolean;
  /** Where names of VMs are answered for; null: nowhere. */
  readonly dnsListen: LoopbackEnd | null;
  /** What the file says; the rest is policy: core/policy/vm-policy.ts. */
  readonly vmDefaults: VmSizing;
  /** Written into each VM at each start, in this order. */
  readonly fileSync: readonly FileSyncEntry[];
}

export const MAX_CONFIG_BYTES = 256 * 1024;

export const LOG_LEVEL_VARIABLE = 'BANGER_LOG_LEVEL';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the file; a missing one means the defaults. BANGER_LOG_LEVEL overrides log_level.
 * @throws {BangerError} `bad_request` with file, line, column and what is allowed; `limit_exceeded`, `io_error`
 */
export async function loadConfig(file: string, env: Environment): Promise<Config> {
  const text = await readTextFile(file, MAX_CONFIG_BYTES);
  const config = text === undefined ? DEFAULT_CONFIG : parseConfig(text, file, env);
  return withEnvironment(config, env);
}

/** @throws {BangerError} `bad_request`: a variable says what is not allowed */
export function withEnvironment(config: Config, env: Environment): Config {
  const override = env['BANGER_LOG_LEVEL'];
  if (override === undefined || override === '') return config;
  const level = CONFIG_KEYS.shape.log_level.safeParse(override);
  if (level.success) return { ...config, logLevel: level.data };
  throw new BangerError(
    'bad_request',
    `BANGER_LOG_LEVEL is ${JSON.stringify(override)}; allowed: ${LOG_LEVELS.join(', ')}`,
  );
}

/** As `loadConfig`, of a text that was read already; `file` is for messages, `env` for `~/`. */
export function parseConfig(text: string, file: string, env: Environment): Config {
  const checked = checkConfig(text, file, null);
  if ('values' in checked) return toConfig(checked.values, env);
  throw problemError(checked.problems[0], checked.problems.length + checked.unlisted);
}

/** What is read of a file; absent keys are their defaults by now. `env` is for `~/`. */
export function toConfig(values: ConfigValues, env: Environment): Config {
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
    sshKeyPath: path(values.ssh_key_path),
    statsPollIntervalMs: values.stats_poll_interval,
    autoStopStaleAfterMs: values.auto_stop_stale_after,
    stateSnapshotIntervalMs: values.state_snapshot_interval,
    idlePauseAfterMs: idle.pause_after,
    idleSaveAfterMs: idle.save_after,
    templatesMaxBytes: templates.max_size,
    templatesStandby: templates.standby,
    natByDefault: sizes.nat,
    portsAutoForward: values.ports.auto_forward,
    dnsListen: values.dns.enabled ? values.dns.listen : null,
    vmDefaults: {
      ...(sizes.vcpu === undefined ? {} : { vcpus: sizes.vcpu }),
      ...(memoryMib === undefined ? {} : { memoryMib }),
      ...(sizes.disk_size === undefined ? {} : { diskSizeBytes: sizes.disk_size }),
    },
    fileSync: values.file_sync,
  };
}

export const DEFAULT_CONFIG: Config = toConfig(CONFIG_KEYS.parse({}), {});

function expandHome(path: string, env: Environment): string {
  return path.startsWith('~/') ? `${env['HOME'] ?? ''}${path.slice(1)}` : path;
}
