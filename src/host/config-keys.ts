/**
 * Every key of config.toml: what it may be, its default, what it means. Checks, `config show`, the JSON Schema and a
 * test of docs/config.md read this. A key that is added here is added in `Config` and `toConfig` (config.ts) too.
 */

import { z } from 'zod';
import { ACCELERATORS, DRIVER_NAMES } from '../core/model/vm.ts';
import {
  duration,
  durationFrom,
  imageName,
  loopbackEnd,
  memorySize,
  oneOf,
  filePath,
  size,
  sizeOrNone,
  whole,
  yesOrNo,
} from './config-fields.ts';
import { fileSyncSchema } from './file-sync-config.ts';
import { LOG_LEVELS } from './log-level.ts';

/** What holds when a key without a default is not there, in words. */
const otherwise = z.registry<{ readonly words: string }>();

/** `written` is the default, as it would stand in the file. */
function key<T extends z.ZodType>(schema: T, written: z.input<T>, description: string) {
  return schema.prefault(written as z.core.util.NoUndefined<z.input<T>>).meta({ description });
}

/** A key whose absence means something that cannot be written. */
function optionalKey<T extends z.ZodType>(schema: T, unset: string, description: string) {
  const made = schema.optional().meta({ description });
  otherwise.add(made, { words: unset });
  return made;
}

/** A `[table]` that may be absent. `check` says what no single key can. */
function table<T extends z.core.$ZodLooseShape>(
  name: string,
  description: string,
  keys: T,
  check: (schema: z.ZodObject<T, z.core.$strict>) => z.ZodObject<T, z.core.$strict> = (schema) => schema,
) {
  const schema = z.strictObject(keys, {
    error: (issue) => (issue.code === 'invalid_type' ? `must be a table: [${name}]` : undefined),
  });
  return check(schema)
    .prefault({} as never)
    .meta({ description });
}

export const CONFIG_KEYS = z.strictObject({
  log_level: key(
    oneOf(LOG_LEVELS),
    'info',
    'what the daemon logs: `"debug"`, `"info"`, `"warn"` or `"error"`. `debug` has a line for each request',
  ),
  default_image_name: key(
    imageName,
    'debian-bookworm',
    'image of `vm run` and `vm create` without `--image`',
  ),
  accel: key(
    oneOf(['auto', ...ACCELERATORS]),
    'auto',
    '`"auto"` (what the probe found to work), `"kvm"` or `"tcg"` (software emulation); `--accel` overrides it',
  ),
  driver: key(oneOf(DRIVER_NAMES), 'qemu', 'what new VMs run in: `"qemu"` or `"firecracker"`'),
  qemu_bin: optionalKey(
    filePath,
    '`qemu-system-x86_64` from `PATH`',
    'absolute path of the QEMU program, or one below `~/`',
  ),
  firecracker_bin: optionalKey(
    filePath,
    '`firecracker` from `PATH`',
    'absolute path of the Firecracker program, or one below `~/`',
  ),
  ssh_key_path: optionalKey(
    filePath,
    'a key made for banger',
    'absolute path, or one below `~/`, of the key that ssh logs in to VMs with',
  ),
  stats_poll_interval: key(durationFrom('1s'), '10s', 'how often running VMs are measured; at least `"1s"`'),
  auto_stop_stale_after: key(
    duration,
    0,
    'stop VMs in which no command was started, and whose ports and health nobody asked for, for this long; `0`: never. ' +
      'Bytes through a published port count as use, and so does a command that is still running, except in a paused VM',
  ),
  state_snapshot_interval: key(
    durationFrom('1m', { orNever: true }),
    '24h',
    'how often the daemon takes a snapshot of its state, when that has changed; at least `"1m"`; `0`: never',
  ),
  file_sync: key(
    fileSyncSchema,
    [],
    'files of your home that each start writes into the VM: tables with `host`, `guest` and `mode`',
  ),
  vm_defaults: table(
    'vm_defaults',
    'a table: sizes and network of new VMs',
    {
      vcpu: optionalKey(whole, 'by the host', 'a whole number'),
      memory: optionalKey(memorySize, 'by the host', '`"4GiB"`, `"512M"`'),
      memory_mib: optionalKey(whole, '', 'the same as a number of MiB; give one of the two'),
      disk_size: optionalKey(size, '`"8GiB"`', 'at least what the image needs'),
      nat: key(yesOrNo, false, 'whether new VMs reach the network; `--nat` and `--no-nat` override it'),
    },
    (schema) =>
      schema
        .refine((sizes) => sizes['memory'] === undefined || sizes['memory_mib'] === undefined, {
          path: ['memory'],
          error: 'is given twice: as memory and as memory_mib',
          // Also where another key is wrong: all mistakes are told at once.
          when: ({ value }) => typeof value === 'object' && value !== null,
        })
        .meta({ not: { required: ['memory', 'memory_mib'] } }),
  ),
  idle: table('idle', 'a table: when VMs that nobody uses are put to sleep', {
    pause_after: key(
      durationFrom('1s', { orNever: true }),
      '30m',
      'VMs that nobody uses stand still after this long; at least `"1s"`; `0`: never',
    ),
    save_after: key(
      durationFrom('1s', { orNever: true }),
      0,
      'they are saved to the disk after this long; at least `"1s"`; `0`: never',
    ),
  }),
  templates: table('templates', 'a table: templates of booted guests', {
    max_size: key(
      sizeOrNone,
      '4GiB',
      'what all templates together may occupy on the disk; the least recently used go first; ' +
        '`0`: none are made or used, and those there are removed',
    ),
    standby: key(
      yesOrNo,
      true,
      'keep one machine restored from a template ahead of time, paused, for the next VM of its kind',
    ),
  }),
  ports: table('ports', 'a table: ports of VMs', {
    auto_forward: key(
      yesOrNo,
      true,
      "what programs in a VM listen on appears on the VM's own address by itself",
    ),
  }),
  dns: table('dns', 'a table: the server that answers for names of VMs', {
    enabled: key(yesOrNo, true, 'whether there is one'),
    listen: key(
      loopbackEnd,
      '127.0.0.1:42069',
      'where: an address of the loopback interface (`127.…`, `[::1]`) with a port',
    ),
  }),
});

/** The keys of the table at `path`, where a number is a place in an array of tables; none where no table is. */
export function keysOf(path: readonly string[]): readonly string[] {
  let schema: z.core.$ZodType = CONFIG_KEYS;
  for (const part of path) {
    const inner: z.core.$ZodType | undefined =
      schema instanceof z.ZodArray
        ? schema.element
        : schema instanceof z.ZodObject
          ? schema.shape[part]
          : undefined;
    if (inner === undefined) return [];
    schema = unwrapped(inner);
  }
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}

export interface LeafKey {
  readonly path: readonly string[];
  readonly description: string;
  /** The default as it would be written; undefined: none can be. */
  readonly fallback: unknown;
  /** What holds then, in words; empty: nothing of its own. */
  readonly otherwise: string | undefined;
}

/** Every key that is no table, in the order of the documentation. */
export function leafKeys(): readonly LeafKey[] {
  return leavesOf(CONFIG_KEYS, []);
}

function leavesOf(schema: z.core.$ZodType, path: readonly string[]): readonly LeafKey[] {
  const inner = unwrapped(schema);
  if (inner instanceof z.ZodObject) {
    return Object.entries(inner.shape).flatMap(([name, part]) => leavesOf(part, [...path, name]));
  }
  const description = z.globalRegistry.get(schema)?.description ?? '';
  const fallback = schema instanceof z.ZodPrefault ? schema.def.defaultValue : undefined;
  return [{ path, description, fallback, otherwise: otherwise.get(schema)?.words }];
}

function unwrapped(schema: z.core.$ZodType): z.core.$ZodType {
  return schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional
    ? unwrapped(schema.unwrap())
    : schema;
}
