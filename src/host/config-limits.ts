/** What a config.toml asks for that it may, but not of this host. */

import { BangerError } from '../core/errors.ts';
import { checkVmSpec, type HostFacts, type VmSizing, vmPolicy } from '../core/policy/vm-policy.ts';
import type { TomlPath } from '../core/toml-position.ts';
import { CONFIG_KEYS } from './config-keys.ts';

export interface Excess {
  readonly path: TomlPath;
  readonly message: string;
}

/** `written` is the file's content as TOML has it. Each key is looked at by itself: others may be wrong. */
export function excessesIn(written: unknown, host: HostFacts): readonly Excess[] {
  const { vcpu, memory, memory_mib, disk_size } = CONFIG_KEYS.shape.vm_defaults.unwrap().shape;
  const valueOf = (key: string): unknown => valueAt(written, ['vm_defaults', key]);
  const asked: readonly (readonly [string, VmSizing])[] = [
    ['vcpu', sizing('vcpus', vcpu.safeParse(valueOf('vcpu')).data)],
    ['memory', sizing('memoryMib', memory.safeParse(valueOf('memory')).data)],
    ['memory_mib', sizing('memoryMib', memory_mib.safeParse(valueOf('memory_mib')).data)],
    ['disk_size', sizing('diskSizeBytes', disk_size.safeParse(valueOf('disk_size')).data)],
  ];
  const policy = vmPolicy({ vmDefaults: {}, accel: 'auto' }, host);
  return asked.flatMap(([key, wanted]) => {
    try {
      checkVmSpec(wanted, policy);
      return [];
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      return [{ path: ['vm_defaults', key], message: error.message }];
    }
  });
}

function sizing(field: keyof VmSizing, value: number | undefined): VmSizing {
  return value === undefined ? {} : { [field]: value };
}

/** What is written there; undefined when nothing is. */
export function valueAt(written: unknown, path: readonly string[]): unknown {
  let value = written;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Readonly<Record<string, unknown>>)[part];
  }
  return value;
}
