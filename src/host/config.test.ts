import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BangerError } from '../core/errors.ts';
import { DEFAULT_CONFIG, loadConfig, parseConfig } from './config.ts';

const parse = (text: string) => parseConfig(text, '/c.toml', { HOME: '/home/u' });

test('an empty file means the defaults; every key is read', () => {
  assert.deepEqual(parse(''), DEFAULT_CONFIG);
  const text = `
    log_level = "debug"
    default_image_name = "debian-trixie"
    accel = "tcg"
    qemu_bin = "~/bin/qemu"
    stats_poll_interval = "30s"
    auto_stop_stale_after = "2h"
    state_snapshot_interval = "12h"
    driver = "firecracker"
    firecracker_bin = "/opt/firecracker"
    ssh_key_path = "~/.ssh/vms"
    [vm_defaults]
    vcpu = 4
    memory = "2GiB"
    disk_size = "16G"
    nat = true
    [idle]
    pause_after = "5m"
    save_after = "1h"
    [templates]
    max_size = "512MiB"
    standby = false
    [ports]
    auto_forward = false
    [dns]
    listen = "[::1]:5353"
    [[file_sync]]
    host = "~/.npmrc"
    guest = "~/.npmrc"
    [[file_sync]]
    host = "~/.config/tool/"
    guest = "/root/.config/tool"
    mode = "0644"
  `;
  assert.deepEqual(parse(text), {
    logLevel: 'debug',
    defaultImageName: 'debian-trixie',
    accel: 'tcg',
    driver: 'firecracker',
    qemuBin: '/home/u/bin/qemu',
    firecrackerBin: '/opt/firecracker',
    sshKeyPath: '/home/u/.ssh/vms',
    statsPollIntervalMs: 30_000,
    autoStopStaleAfterMs: 7_200_000,
    stateSnapshotIntervalMs: 43_200_000,
    idlePauseAfterMs: 300_000,
    idleSaveAfterMs: 3_600_000,
    templatesMaxBytes: 512 * 1024 ** 2,
    templatesStandby: false,
    natByDefault: true,
    portsAutoForward: false,
    dnsListen: { host: '::1', port: 5353 },
    vmDefaults: { vcpus: 4, memoryMib: 2048, diskSizeBytes: 16 * 1024 ** 3 },
    fileSync: [
      { host: '.npmrc', guest: '.npmrc', mode: 0o600 },
      { host: '.config/tool', guest: '.config/tool', mode: 0o644 },
    ],
  });
  assert.equal(parse('state_snapshot_interval = 0').stateSnapshotIntervalMs, 0);
  assert.equal(parse('templates.max_size = 0').templatesMaxBytes, 0);
  assert.equal(parse('ports.auto_forward = false').portsAutoForward, false);
  assert.equal(parse('').portsAutoForward, true);
  assert.deepEqual(parse('dns.listen = "127.0.0.1:53"').dnsListen, { host: '127.0.0.1', port: 53 });
  assert.equal(parse('[dns]\nlisten = "127.0.0.1:53"\nenabled = false').dnsListen, null);
  assert.deepEqual(parse('dns.enabled = true').dnsListen, { host: '127.0.0.1', port: 42_069 });
  assert.deepEqual(parse('auto_stop_stale_after = 0\nvm_defaults.memory_mib = 512').vmDefaults, {
    memoryMib: 512,
  });
});

test('mistakes are told with file, line, column and what is allowed', () => {
  const wrong: readonly (readonly [string, string, RegExp])[] = [
    ['accel = "xen"', '1:1', /accel: must be one of "auto", "kvm", "tcg"/],
    ['\n  foo = 1', '2:3', /unknown key "foo"/],
    ['# accel\n[vm_defaults]\n\n cpus = 2', '4:2', /unknown key "cpus" in \[vm_defaults\]/],
    ['[vm_defaults]\nvcpu = 0', '2:1', /vm_defaults\.vcpu: must be at least 1/],
    ['[vm_defaults]\nvcpu = 1.5', '2:1', /must be a whole number/],
    ['[vm_defaults]\nvcpu = "4"', '2:1', /must be a whole number/],
    ['[vm_defaults]\nmemory_mib = -1', '2:1', /must be at least 1/],
    ['[vm_defaults]\nmemory = "4GB"', '2:1', /"4GB" is not a size/],
    ['[vm_defaults]\nmemory = "1B"', '2:1', /whole number of MiB/],
    ['[vm_defaults]\nmemory = "1G"\nmemory_mib = 1', '2:1', /is given twice/],
    ['[vm_defaults]\ndisk_size = "0"', '2:1', /larger than 0/],
    ['vm_defaults = { vcpu = 0 }', '1:17', /vm_defaults\.vcpu/],
    ['log_level = "info"\nvm_defaults.x = 1', '2:13', /unknown key "x" in \[vm_defaults\]/],
    ['[templates]\nmax_size = 5', '2:1', /templates\.max_size: must be a text like "8GiB", or 0/],
    ['[templates]\nmax_size = "5GB"', '2:1', /"5GB" is not a size/],
    ['[templates]\nmaximum = 0', '2:1', /unknown key "maximum" in \[templates\]/],
    ['[idle]\npause_after = "10ms"', '2:1', /idle\.pause_after: must be at least 1s, or 0/],
    ['[templates]\nstandby = 1', '2:1', /templates\.standby: must be true or false/],
    ['[ports]\nauto_forward = "yes"', '2:1', /ports\.auto_forward: must be true or false/],
    ['[dns]\nlisten = "0.0.0.0:53"', '2:1', /dns\.listen: must be an address of the loopback interface/],
    ['[dns]\nlisten = 53', '2:1', /dns\.listen: must be a text like/],
    ['[dns]\nport = 53', '2:1', /unknown key "port" in \[dns\]/],
    ['templates = 3', '1:1', /must be a table: \[templates\]/],
    ['vm_defaults = 3', '1:1', /must be a table/],
    ['"log_level" = "loud"', '1:1', /log_level: must be one of/],
    ['stats_poll_interval = "10ms"', '1:1', /at least 1s/],
    ['state_snapshot_interval = "59s"', '1:1', /at least 1m, or 0/],
    ['stats_poll_interval = 10', '1:1', /must be a text like "10s"/],
    ['qemu_bin = "qemu"', '1:1', /absolute path/],
    ['ssh_key_path = "id_ed25519"', '1:1', /absolute path/],
    ['firecracker_bin = "firecracker"', '1:1', /absolute path/],
    ['driver = "xen"', '1:1', /driver: must be one of "qemu", "firecracker"/],
    ['default_image_name = "../x"', '1:1', /the image name/],
    ['log_level = "info"\nlog_level = "warn"', '2:1', /redefine/],
    ['accel = = 1', '1:9', /invalid value/],
    ['[extra]\na = 1', '1:2', /unknown key "extra"/],
  ];
  for (const [text, place, message] of wrong) {
    assert.throws(
      () => parse(text),
      (error) => {
        assert.ok(error instanceof BangerError && error.code === 'bad_request', String(error));
        assert.ok(error.message.startsWith(`/c.toml:${place}: `), error.message);
        assert.match(error.message, message);
        return true;
      },
      text,
    );
  }
});

test('an unknown key is answered with the known ones', () => {
  const hint = (text: string): string | undefined => {
    try {
      parse(text);
    } catch (error) {
      return (error as BangerError).hint;
    }
    return assert.fail('accepted');
  };
  assert.match(hint('foo = 1') ?? '', /^allowed: log_level, .*vm_defaults, idle, templates, ports, dns$/);
  assert.equal(hint('[vm_defaults]\nfoo = 1'), 'allowed: vcpu, memory, memory_mib, disk_size, nat');
  assert.equal(hint('[templates]\nfoo = 1'), 'allowed: max_size, standby');
});

test('a missing file means the defaults; BANGER_LOG_LEVEL overrides; a huge file is refused', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'config-'));
  const file = join(dir, 'config.toml');
  assert.deepEqual(await loadConfig(file, {}), DEFAULT_CONFIG);
  assert.equal((await loadConfig(file, { BANGER_LOG_LEVEL: 'error' })).logLevel, 'error');
  writeFileSync(file, 'log_level = "warn"');
  assert.equal((await loadConfig(file, {})).logLevel, 'warn');
  assert.equal((await loadConfig(file, { BANGER_LOG_LEVEL: 'debug' })).logLevel, 'debug');
  await assert.rejects(
    loadConfig(file, { BANGER_LOG_LEVEL: 'loud' }),
    /BANGER_LOG_LEVEL is "loud"; allowed: debug/,
  );
  writeFileSync(file, `#${'x'.repeat(300 * 1024)}`);
  await assert.rejects(loadConfig(file, {}), /larger than 262144 bytes/);
  rmSync(dir, { recursive: true });
});

test('an entry of file_sync that is none is told with its number', () => {
  const good = '[[file_sync]]\nhost = "~/a"\nguest = "~/a"\n';
  const wrong: readonly (readonly [string, RegExp])[] = [
    ['host = "/etc/passwd"\nguest = "~/a"', /file_sync\[2\]\.host: must be a path below "~\/"/],
    ['host = "~/../x"\nguest = "~/a"', /file_sync\[2\]\.host/],
    ['host = "~/"\nguest = "~/a"', /file_sync\[2\]\.host/],
    ['host = "~/a"\nguest = "/etc/a"', /file_sync\[2\]\.guest: must be a path below "~\/" or "\/root\/"/],
    ['host = "~/a"\nguest = "~/x/../../etc/a"', /file_sync\[2\]\.guest/],
    ['host = "~/a"\nguest = "~/a"\nmode = "9"', /file_sync\[2\]\.mode: must be three octal digits/],
    ['host = "~/a"\nguest = "~/a"\nmode = "4755"', /file_sync\[2\]\.mode/],
    [
      'host = "~/a"\nguest = "~/a"\nmode = 600',
      /file_sync\[2\]\.mode: must be .* in quotes, .* "600", "0600"$/,
    ],
    ['host = "~/a"', /file_sync\[2\]\.guest: is missing; it must be a path/],
    ['host = "~/a"\nguest = "~/a"\nowner = "x"', /unknown key "owner" in \[file_sync\[2\]\]/],
  ];
  for (const [entry, message] of wrong)
    assert.throws(() => parse(`${good}[[file_sync]]\n${entry}\n`), { code: 'bad_request', message });
  assert.throws(() => parse('file_sync = [1]'), {
    message: /1:14: file_sync\[1\]: must be a table with host and guest/,
  });
  for (const mode of ['644', '0644']) assert.equal(parse(`${good}mode = "${mode}"`).fileSync[0]?.mode, 0o644);
  assert.throws(() => parse('file_sync = "x"'), { message: /must be tables: \[\[file_sync\]\]/ });
});
