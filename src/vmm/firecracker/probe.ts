/** Whether Firecracker works here: found out by booting (../probe.ts). */

import { BangerError } from '../../core/errors.ts';
import type { AcceleratorChoice } from '../../core/model/vm.ts';
import type { Platform, ProbeAttempt, ProbeOptions, ProbeResult } from '../driver.ts';
import { type BootPorts, probePlatforms } from '../probe.ts';
import { MACHINE } from './config.ts';

export interface ProbePorts {
  readonly inspect: (signal: AbortSignal) => Promise<string>;
  readonly launch: BootPorts['launch'];
  readonly boundMs?: number;
}

/** With KVM that works it takes a fraction of a second; where it does not, a guest may spin for ever. */
const BOUND_MS = 20_000;

/** Contract: VmmDriver.probe. It says itself what it lacks: /dev/kvm, or the right to use it. */
export async function probe(ports: ProbePorts, options: ProbeOptions): Promise<ProbeResult> {
  const vmmVersion = await ports.inspect(options.signal);
  const { launch, boundMs = BOUND_MS } = ports;
  const platform: Platform = { accelerator: 'kvm', machine: MACHINE, transport: 'mmio', vmmVersion };
  const boot: BootPorts = {
    launch,
    boundMs: () => boundMs,
    obstacle: async () => undefined,
    network: { kind: 'none' },
  };
  const result = await probePlatforms(boot, options, options.accel === 'tcg' ? [] : [platform]);
  if ('chosen' in result) return result;
  throw doesNotWork(result, options.accel);
}

function doesNotWork([attempt]: readonly ProbeAttempt[], accel: AcceleratorChoice): BangerError {
  if (attempt === undefined) {
    return new BangerError('vmm_failed', `${accel} does not work with Firecracker: it needs KVM`, {
      hint: 'driver = "qemu" in config.toml works without KVM',
    });
  }
  return new BangerError('vmm_failed', `Firecracker does not work on this host: ${attempt.reason}`, {
    hint: 'driver = "qemu" in config.toml works without KVM; a kernel that an older banger built has no vsock modules: banger kernel list',
  });
}
