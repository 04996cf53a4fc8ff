/** Keys of the Go program's config.toml that are not ours, and what its users should know. */

const NO_JAILER = 'does not apply: VMs run without root here, and there is no jailer';
const NO_BRIDGE = 'does not apply: each VM has a user-mode network of its own here, without bridge or taps';

const HINTS: Readonly<Record<string, string>> = {
  jailer_bin: NO_JAILER,
  jailer_enabled: NO_JAILER,
  jailer_chroot_base: NO_JAILER,
  bridge_name: NO_BRIDGE,
  bridge_ip: NO_BRIDGE,
  cidr: NO_BRIDGE,
  tap_pool_size: NO_BRIDGE,
  default_dns: 'does not apply: VMs with --nat ask the name servers of this host',
  metrics_poll_interval: 'is called stats_poll_interval here',
  web_listen_addr: 'does not apply: there is no web interface',
  'vm_defaults.system_overlay_size': 'is part of vm_defaults.disk_size here: a VM has one disk',
};

/** Undefined: it knew no such key either. `key` as it is written: `vm_defaults.vcpu`. */
export function originalKeyHint(key: string): string | undefined {
  const hint = Object.hasOwn(HINTS, key) ? HINTS[key] : undefined;
  return hint === undefined ? undefined : `${key} ${hint}`;
}
