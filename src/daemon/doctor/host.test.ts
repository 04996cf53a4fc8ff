import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DoctorHome } from '../../../test/helpers/doctor-home.ts';
import { BangerError } from '../../core/errors.ts';
import type { CommandRunner, RunResult } from '../../host/runner.ts';
import { findProgram } from '../../host/find-program.ts';
import { NO_LOG } from '../../host/log.ts';
import { readKernelManifest } from '../../images/manifests.ts';
import type { ProbeResult, VmmDriver } from '../../vmm/driver.ts';
import { PlatformService } from '../services/images/platform-service.ts';
import type { HostFacts } from './host-facts.ts';

/** A host without the named programs; the others say what is given, or a version. */
function programs(missing: readonly string[], says: Readonly<Record<string, string>> = {}): CommandRunner {
  return {
    run: async ([program, ...args]): Promise<RunResult> => {
      if (missing.includes(program)) throw new BangerError('dependency_missing', `no ${program}`);
      const answer = says[[program, ...args].join(' ')] ?? says[program] ?? `${program} 9.8.7`;
      if (answer === 'fail') throw new BangerError('io_error', `${program} failed (exit status 1)`);
      // e2fsprogs and ssh print their versions on stderr.
      return { stdout: Buffer.from(program === 'git' ? answer : ''), stderr: answer, status: 0 };
    },
  };
}

const QEMU = {
  run: async ([, flag]: readonly string[]): Promise<RunResult> => {
    const text = flag === '--version' ? 'QEMU emulator version 8.2.1' : 'microvm  a\nq35  b\npc  c\n';
    return { stdout: Buffer.from(text), stderr: '', status: 0 };
  },
} satisfies CommandRunner;

function qemuSaying(version: string, machines: string): CommandRunner {
  return {
    run: async ([, flag]) => ({
      stdout: Buffer.from(flag === '--version' ? `QEMU emulator version ${version}` : machines),
      stderr: '',
      status: 0,
    }),
  };
}

test('host.architecture', async () => {
  using home = new DoctorHome();
  assert.equal(await home.says('host.architecture'), 'ok: x86_64');
  assert.match(await home.says('host.architecture', { host: { arch: 'arm64' } }), /^failure: linux on arm64/);
  assert.match(await home.says('host.architecture', { host: { platform: 'darwin' } }), /^failure: darwin/);
});

test('host.kernel', async () => {
  using home = new DoctorHome();
  assert.match(await home.says('host.kernel'), /^ok: \d+\.\d+/);
  assert.match(await home.says('host.kernel', { host: { kernelRelease: 'custom' } }), /^warning: .*"custom"/);
});

test('host.runtime', async () => {
  using home = new DoctorHome();
  assert.match(await home.says('host.runtime'), /^ok: Node.js \d+\..*, SQLite 3\./);
  assert.match(
    await home.says('host.runtime', { host: { sqliteVersion: '3.51.2' } }),
    /^failure: .*can corrupt/,
  );
  assert.match(await home.says('host.runtime', { host: { sqliteVersion: '3.51.3' } }), /^ok/);
  assert.match(
    await home.says('host.runtime', { host: { nodeVersion: '22.1.0' } }),
    /^failure: .*24 is needed/,
  );
});

test('host.qemu', async () => {
  using home = new DoctorHome();
  assert.equal(await home.says('host.qemu', { runner: QEMU }), 'ok: QEMU 8.2.1 (microvm, q35)');
  assert.match(
    await home.says('host.qemu', { runner: programs(['qemu-system-x86_64']) }),
    /^failure: qemu-system-x86_64 is not installed → sudo apt-get install qemu-system-x86$/,
  );
  assert.match(
    await home.says('host.qemu', { runner: qemuSaying('7.1.0', 'q35  x') }),
    /^warning: .*older than 7\.2/,
  );
  assert.match(
    await home.says('host.qemu', { runner: qemuSaying('9.0.0', 'virt  x') }),
    /^failure: .*neither/,
  );
  assert.match(await home.says('host.qemu', { runner: programs([]) }), /^failure: .*names no version/);
});

test('host.qemu is the one of the settings', async () => {
  using home = new DoctorHome();
  mkdirSync(home.paths.configDir);
  writeFileSync(home.paths.configFile, 'qemu_bin = "/opt/qemu"\n');
  const said = await home.says('host.qemu', { runner: programs(['/opt/qemu']) });
  assert.match(said, /^failure: \/opt\/qemu is not installed/);
});

test('host.firecracker', async () => {
  using home = new DoctorHome();
  assert.equal(await home.says('host.firecracker'), 'ok: not used: driver is "qemu"');
  mkdirSync(home.paths.configDir);
  const use = (bin: string): void =>
    writeFileSync(home.paths.configFile, `driver = "firecracker"\nfirecracker_bin = "${bin}"\n`);
  use('/opt/firecracker');
  const says = async (text: string): Promise<string> =>
    await home.says('host.firecracker', {
      runner: { run: async () => ({ stdout: Buffer.from(text), stderr: '', status: 0 }) },
    });
  assert.match(await says('Firecracker v1.14.2'), /^info: Firecracker 1\.14\.2 \(usable: 1\.10[^]*--nat/);
  assert.match(await says('Firecracker v1.16.0'), /^failure: Firecracker 1\.16\.0 cannot be used → .*1\.10/);
  assert.match(await says('hello'), /^failure: .*names no version/);
  use('/nonexistent/fc');
  const missing = programs(['/nonexistent/fc', 'qemu-system-x86_64']);
  assert.match(
    await home.says('host.firecracker', { runner: missing }),
    /^failure: .*not installed → .*releases/,
  );
  assert.match(await home.says('host.qemu', { runner: missing }), /^info: not installed, and not used/);
});

test('host.programs', async () => {
  using home = new DoctorHome();
  const all = await home.says('host.programs', { runner: programs([], { git: 'git version 2.39.5' }) });
  assert.match(all, /^ok: qemu-img 9\.8\.7, mmdebstrap 9\.8\.7, .*git 2\.39\.5, xz 9\.8\.7, ssh 9\.8\.7$/);
  const some = await home.says('host.programs', { runner: programs(['mke2fs', 'debugfs', 'xz']) });
  assert.match(
    some,
    /\nfailure: not installed: mke2fs, debugfs, xz → sudo apt-get install e2fsprogs xz-utils$/,
  );
  const broken = await home.says('host.programs', { runner: programs([], { git: 'fail' }) });
  assert.match(broken, /\nwarning: git is installed, but "git --version" failed/);
  const strange = await home.says('host.programs', { runner: programs([], { git: 'hello' }) });
  assert.match(strange, /\nwarning: git is installed, but .*names no version/);
  assert.match(
    await home.says('host.programs', { runner: programs(['ssh']) }),
    /\ninfo: ssh is not installed/,
  );
  const none = programs([
    'qemu-img',
    'mmdebstrap',
    'apt-get',
    'mke2fs',
    'debugfs',
    'e2fsck',
    'git',
    'xz',
    'ssh',
  ]);
  assert.match(await home.says('host.programs', { runner: none }), /^failure: not installed: qemu-img, /);
});

test('host.programs asks the real ones', async () => {
  using home = new DoctorHome();
  assert.match(await home.says('host.programs'), /^ok: .*git 2\./);
});

test('host.guest-agent', async () => {
  using home = new DoctorHome();
  assert.match(await home.says('host.guest-agent'), /^failure: .*banger-agent is missing.* → npm run build$/);
  home.makeDirectories();
  assert.match(await home.says('host.guest-agent'), /^ok: .*banger-agent, \d+ bytes$/);
  writeFileSync(join(home.guestBinDir, 'banger-agent'), '');
  assert.match(await home.says('host.guest-agent'), /^failure: .*is no program/);
  writeFileSync(join(home.guestBinDir, 'banger-agent'), '#!/bin/sh\n');
  assert.match(await home.says('host.guest-agent'), /^failure: .*is no program/);
});

test('host.kvm', async () => {
  using home = new DoctorHome();
  const kvmPath = join(home.dir, 'kvm');
  assert.match(await home.says('host.kvm', { host: { kvmPath } }), /^info: there is no .*software emulation/);
  writeFileSync(kvmPath, '');
  assert.match(await home.says('host.kvm', { host: { kvmPath } }), /^ok: /);
  rmSync(kvmPath);
  mkdirSync(kvmPath);
  assert.match(
    await home.says('host.kvm', { host: { kvmPath } }),
    /^warning: .*cannot be opened: is a directory;/,
  );
});

test('host.accelerator before any probe, and without QEMU', async () => {
  using home = new DoctorHome();
  const unknown = 'info: not probed yet: the first VM does';
  assert.equal(await home.says('host.accelerator'), unknown);
  home.makeDirectories().addKernel();
  assert.equal(await home.says('host.accelerator'), unknown);
  writeFileSync(home.paths.probeFile, 'not JSON');
  assert.equal(await home.says('host.accelerator'), unknown);
});

/** What a daemon would have written after its probe. */
async function remember(home: DoctorHome, attempts: ProbeResult['attempts']): Promise<void> {
  const chosen = attempts.find(({ works }) => works)?.platform;
  assert.ok(chosen);
  const driver = { probe: async () => ({ chosen, attempts }) } as unknown as VmmDriver;
  const platforms = new PlatformService({
    paths: home.paths,
    driver,
    log: NO_LOG,
    agentPath: join(home.guestBinDir, 'banger-agent'),
    vmmProgram: () => findProgram('qemu-system-x86_64'),
  });
  const dir = join(home.paths.kernelsDir, 'debian-bookworm-cloud');
  const manifest = await readKernelManifest(dir);
  assert.ok(manifest);
  const operation = {
    signal: AbortSignal.timeout(10_000),
    progress: () => undefined,
    about: () => undefined,
  };
  await platforms.platform('auto', { dir, manifest }, operation);
}

test('host.accelerator tells what the daemon remembers, and why it is not KVM', async () => {
  using home = new DoctorHome();
  home.makeDirectories().addKernel();
  const tcg = { accelerator: 'tcg', machine: 'microvm', transport: 'mmio', vmmVersion: '7.2.22' } as const;
  const kvm = { ...tcg, accelerator: 'kvm' } as const;
  const failed = { platform: kvm, works: false, durationMs: 5, reason: 'it said no' };
  await remember(home, [failed, { platform: tcg, works: true, durationMs: 5 }]);
  assert.equal(
    await home.says('host.accelerator'),
    'info: tcg (microvm), QEMU 7.2.22: software emulation, because with KVM: it said no',
  );
  rmSync(home.paths.probeFile);
  await remember(home, [{ platform: kvm, works: true, durationMs: 5 }]);
  assert.equal(await home.says('host.accelerator'), 'ok: kvm (microvm), QEMU 7.2.22');
  writeFileSync(join(home.guestBinDir, 'banger-agent'), '\x7fELF of another build');
  assert.match(await home.says('host.accelerator'), /^info: not probed yet/);
});

test('host.user-namespaces', async () => {
  using home = new DoctorHome();
  assert.match(await home.says('host.user-namespaces', { host: { uid: 0 } }), /^ok: not needed/);
  const [procDir, etcDir] = [join(home.dir, 'proc'), join(home.dir, 'etc')];
  const host: Partial<HostFacts> = { uid: 1000, userName: 'dev', procDir, etcDir };
  const set = (path: string, value: string): void => {
    mkdirSync(join(procDir, 'sys', path, '..'), { recursive: true });
    writeFileSync(join(procDir, 'sys', path), `${value}\n`);
  };
  mkdirSync(etcDir);
  for (const file of ['subuid', 'subgid']) writeFileSync(join(etcDir, file), 'dev:100000:65536\n');
  set('user/max_user_namespaces', '1000');
  set('kernel/unprivileged_userns_clone', '1');
  const said = async (): Promise<string> => await home.says('host.user-namespaces', { host });
  assert.equal(await said(), 'ok: usable for building images');
  set('user/max_user_namespaces', '0');
  assert.match(await said(), /^warning: .*user\.max_user_namespaces/);
  set('user/max_user_namespaces', '1000');
  set('kernel/unprivileged_userns_clone', '0');
  assert.match(await said(), /^warning: .*→ sudo sysctl kernel\.unprivileged_userns_clone=1/);
  set('kernel/unprivileged_userns_clone', '1');
  set('kernel/apparmor_restrict_unprivileged_userns', '1');
  assert.match(await said(), /^warning: .*=0, or build the image once as root/);
  set('kernel/apparmor_restrict_unprivileged_userns', '0');
  writeFileSync(join(etcDir, 'subgid'), 'somebody:100000:65536\n');
  assert.match(await said(), /^warning: user dev has no subordinate ids in .*subgid.*--add-subgids/);
  rmSync(join(etcDir, 'subuid'));
  assert.match(await said(), /^warning: .*--add-subuids.*\nwarning: .*--add-subgids/);
});

test('host.disk-space', async () => {
  using home = new DoctorHome();
  const lines = (await home.says('host.disk-space')).split('\n');
  assert.deepEqual(
    lines.map((line) => / free for ([a-z ]+) \(/.exec(line)?.[1]),
    ['state', 'cache', 'runtime', 'image builds'],
  );
  const withMib = async (mib: number): Promise<string> => {
    const space = { bsize: 4096, bavail: mib * 256, files: 0, ffree: 0 };
    const said = await home.says('host.disk-space', { host: { statfs: async () => space } });
    return said.replace(/: .*/g, '').replaceAll('\n', ' ');
  };
  assert.equal(await withMib(6000), 'ok ok ok ok');
  assert.equal(await withMib(5000), 'warning ok ok ok');
  assert.equal(await withMib(600), 'warning ok ok warning');
  assert.equal(await withMib(499), 'failure warning ok warning');
  assert.equal(await withMib(20), 'failure failure warning warning');
  assert.equal(await withMib(1), 'failure failure failure warning');
});

test('host.disk-space looks where a directory will be made', async () => {
  using home = new DoctorHome();
  const asked: string[] = [];
  const statfs = async (path: string) => {
    asked.push(path);
    return { bsize: 1, bavail: 1, files: 0, ffree: 0 };
  };
  await home.says('host.disk-space', { host: { statfs, buildDir: '/' } });
  assert.deepEqual([...new Set(asked)], [home.dir, '/']);
});

test('host.inodes', async () => {
  using home = new DoctorHome();
  const withFree = async (ffree: number, files: number): Promise<string> => {
    const space = { bsize: 1, bavail: 1, files, ffree };
    return (await home.says('host.inodes', { host: { statfs: async () => space } })).split('\n')[0] ?? '';
  };
  assert.equal(await withFree(20_000, 100_000), 'ok: enough everywhere');
  assert.equal(await withFree(0, 0), 'ok: enough everywhere');
  assert.match(await withFree(19_999, 100_000), /^warning: 19999 inodes free for state .*→ df -i/);
  assert.match(await withFree(999, 100_000), /^failure: 999 inodes/);
});

test('host.memory', async () => {
  using home = new DoctorHome();
  assert.match(
    await home.says('host.memory'),
    /^(ok|warning|failure): \d+ MiB of \d+ MiB available, \d+ CPUs/,
  );
  const procDir = home.dir;
  const withKib = async (kib: number): Promise<string> => {
    writeFileSync(join(procDir, 'meminfo'), `MemTotal: 1 kB\nMemAvailable:  ${kib} kB\n`);
    return await home.says('host.memory', { host: { procDir, memoryMib: 8000 } });
  };
  assert.match(await withKib(4 * 1024 * 1024), /^ok: 4096 MiB of 8000 MiB/);
  assert.match(await withKib(900 * 1024), /^warning: 900 MiB/);
  assert.match(await withKib(100 * 1024), /^failure: 100 MiB/);
  writeFileSync(join(procDir, 'meminfo'), 'nothing\n');
  assert.match(await home.says('host.memory', { host: { procDir } }), /^warning: .*does not say/);
});

test('host.limits', async () => {
  using home = new DoctorHome();
  assert.match(await home.says('host.limits'), /^ok: at most \S+ open files/);
  mkdirSync(join(home.dir, 'self'));
  const withLimit = async (line: string): Promise<string> => {
    writeFileSync(join(home.dir, 'self', 'limits'), `Limit  Soft Limit  Hard Limit  Units\n${line}\n`);
    return await home.says('host.limits', { host: { procDir: home.dir } });
  };
  assert.match(await withLimit('Max open files            64    64    files'), /^failure: at most 64/);
  assert.match(await withLimit('Max open files            512   512   files'), /^warning: at most 512/);
  assert.match(await withLimit('Max open files            unlimited unlimited files'), /^ok/);
  assert.match(await withLimit('Max something             1 1'), /^warning: .*not known/);
});

test('host.clock', async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  assert.match(await home.says('host.clock'), /^ok: 20/);
  assert.match(await home.says('host.clock', { host: { now: () => 0 } }), /^failure: it is 1970/);
  utimesSync(home.paths.stateDir, new Date('2099-01-01'), new Date('2099-01-01'));
  assert.match(await home.says('host.clock'), /^info: .*2099.*went back/);
});

test('host.probe without a kernel, and with a QEMU that cannot be started', async () => {
  using home = new DoctorHome();
  const tmpDir = join(home.dir, 'tmp');
  mkdirSync(tmpDir, { mode: 0o700 });
  assert.match(await home.says('host.probe', { host: { tmpDir } }), /^info: there is no kernel/);
  home.makeDirectories().addKernel();
  const runner = programs(['qemu-system-x86_64']);
  assert.match(
    await home.says('host.probe', { runner, host: { tmpDir } }),
    /^failure: QEMU is not installed/,
  );
  const strange = await home.says('host.probe', { runner: qemuSaying('9.0.0', 'virt'), host: { tmpDir } });
  assert.match(strange, /^failure: no accelerator works/);
});

test('host.probe refuses a place that somebody else prepared', async () => {
  using home = new DoctorHome();
  home.makeDirectories().addKernel();
  const tmpDir = join(home.dir, 'tmp');
  const place = join(tmpDir, `banger-doctor-${process.geteuid?.()}`);
  mkdirSync(place, { recursive: true });
  chmodSync(place, 0o777);
  assert.match(await home.says('host.probe', { runner: QEMU, host: { tmpDir } }), /open to other users/);
});
