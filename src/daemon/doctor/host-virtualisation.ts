/** Checks of what a VM and the build of an image want from the host's kernel. */

import { constants } from 'node:fs';
import { open, readFile, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BangerError, errorText } from '../../core/errors.ts';
import { systemReason } from '../../core/system-error.ts';
import { findProgram } from '../../host/find-program.ts';
import { readJsonFile } from '../../host/files.ts';
import { NO_LOG } from '../../host/log.ts';
import { ensurePrivateDir } from '../../host/paths.ts';
import { ensureInitramfs } from '../../images/initramfs.ts';
import { DEFAULT_KERNEL_NAME } from '../../images/kernel-build.ts';
import { readKernelManifest } from '../../images/manifests.ts';
import { hasSubordinateIds } from '../../images/mmdebstrap.ts';
import { createTempDir } from '../../host/drafts.ts';
import { toolEnv } from '../../images/tools.ts';
import type { Platform } from '../../vmm/driver.ts';
import { createDriver, vmmProgramOf } from '../drivers.ts';
import type { LocalKernel } from '../services/images/kernel-service.ts';
import { PlatformService } from '../services/images/platform-service.ts';
import { type Check, failure, info, ok, type Outcome, orOk, warning } from './check.ts';
import { agentPath, type DoctorContext } from './context.ts';
import { factsOf } from './host-facts.ts';

const kvm: Check<DoctorContext> = {
  id: 'host.kvm',
  group: 'host',
  title: 'KVM',
  timeoutMs: 2000,
  run: async ({ host }) => {
    if (factsOf(host.kvmPath) === undefined) {
      return info(`there is no ${host.kvmPath}: VMs run under software emulation, which works and is slower`);
    }
    try {
      await (await open(host.kvmPath, constants.O_RDWR)).close();
      return ok(`${host.kvmPath} can be opened`);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      const fix =
        code === 'EACCES' || code === 'EPERM'
          ? `sudo usermod -aG kvm ${host.userName}, then log in again`
          : `look at: ls -l ${host.kvmPath}`;
      return warning(
        `${host.kvmPath} cannot be opened: ${systemReason(error) ?? code}; VMs run under software emulation`,
        { fix },
      );
    }
  },
};

const accelerator: Check<DoctorContext> = {
  id: 'host.accelerator',
  group: 'host',
  title: 'accelerator',
  timeoutMs: 5000,
  run: async (context) => {
    const kernel = await someKernel(context);
    const platform = kernel === undefined ? undefined : await rememberedPlatform(context, kernel);
    if (platform === undefined) return info('not probed yet: the first VM does');
    const { driver } = await context.configOrDefault();
    const vmm = driver === 'qemu' ? 'QEMU' : 'Firecracker';
    const name = `${platform.accelerator} (${platform.machine}), ${vmm} ${platform.vmmVersion}`;
    if (platform.accelerator === 'kvm') return ok(name);
    const why = await whyNotKvm(context, platform);
    return info(`${name}: software emulation${why === undefined ? '' : `, because with KVM: ${why}`}`);
  },
};

/** What the daemon would take without probing again, for the same VMM, kernel, agent and host kernel. */
async function rememberedPlatform(
  context: DoctorContext,
  kernel: LocalKernel,
): Promise<Platform | undefined> {
  const config = await context.configOrDefault();
  const platforms = new PlatformService({
    paths: context.paths,
    driver: createDriver(config, context),
    log: NO_LOG,
    agentPath: agentPath(context),
    vmmProgram: () => findProgram(vmmProgramOf(config)),
  });
  try {
    return await platforms.known(config.accel, kernel);
  } catch (error) {
    // No VMM, no agent: checks of their own say so.
    const code = (error as { code?: unknown }).code;
    if (code === 'dependency_missing' || code === 'ENOENT') return undefined;
    throw error;
  }
}

const attemptsSchema = z.record(
  z.string(),
  z.looseObject({
    probedAt: z.string(),
    chosen: z.looseObject({ vmmVersion: z.string() }),
    attempts: z.array(
      z.looseObject({
        platform: z.looseObject({ accelerator: z.string() }),
        works: z.boolean(),
        reason: z.string().optional(),
      }),
    ),
  }),
);
const PROBE_MAX_BYTES = 1024 * 1024;

/** Of the latest probe with that VMM. */
async function whyNotKvm({ paths }: DoctorContext, { vmmVersion }: Platform): Promise<string | undefined> {
  const cache = attemptsSchema.safeParse(await readJsonFile(paths.probeFile, PROBE_MAX_BYTES));
  if (!cache.success) return undefined;
  const latest = Object.values(cache.data)
    .filter(({ chosen }) => chosen.vmmVersion === vmmVersion)
    .sort((a, b) => (a.probedAt < b.probedAt ? 1 : -1))[0];
  return latest?.attempts.find(({ platform, works }) => platform.accelerator === 'kvm' && !works)?.reason;
}

/** The kernel a probe boots: the default one, else that of any image. Damaged ones are another check's matter. */
async function someKernel(context: DoctorContext): Promise<LocalKernel | undefined> {
  const dir = join(context.paths.kernelsDir, DEFAULT_KERNEL_NAME);
  const manifest = await readKernelManifest(dir).catch(() => undefined);
  return manifest === undefined ? undefined : { dir, manifest };
}

const PROBE_TIMEOUT_MS = 120_000;

/** Everything it makes lies in a directory of its own, and is gone afterwards. */
const probe: Check<DoctorContext> = {
  id: 'host.probe',
  group: 'host',
  title: 'probe boot',
  timeoutMs: PROBE_TIMEOUT_MS,
  windUpMs: 10_000,
  deep: true,
  alone: true,
  run: async (context, signal) => {
    const kernel = await someKernel(context);
    if (kernel === undefined) {
      return info('there is no kernel to boot yet', {
        fix: 'the first VM makes one, or: banger image build',
      });
    }
    const config = await context.configOrDefault();
    // One place per user: the next probe ends the machine that a killed one left there.
    const dir = join(context.host.tmpDir, `banger-doctor-${context.host.uid}`);
    ensurePrivateDir(dir);
    try {
      await using temp = await createTempDir(dir, 'initramfs');
      const driver = createDriver(config, context);
      const { chosen, attempts } = await driver.probe({
        kernelPath: join(kernel.dir, kernel.manifest.vmlinux.file),
        initramfsFor: async (transport) => {
          const inputs = { kernelDir: kernel.dir, kernel: kernel.manifest, agentPath: agentPath(context) };
          const { channel } = driver.capabilities;
          return (await ensureInitramfs({ ...inputs, transport, channel, cacheDir: temp.dir })).path;
        },
        scratchDir: dir,
        accel: config.accel,
        signal,
        onStep: (text) => context.progress({ step: 'host.probe', text }),
      });
      const failed = attempts.filter(({ works }) => !works);
      const tookMs = attempts.find(({ works }) => works)?.durationMs ?? 0;
      const name = `${chosen.accelerator} (${chosen.machine})`;
      const found = `a guest said hello after ${tookMs} ms with ${name}`;
      const reasons = failed.map(({ platform, reason }) => `${platform.accelerator}: ${reason}`).join('; ');
      return failed.length === 0 ? ok(found) : info(`${found}; what did not work: ${reasons}`);
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      return failure(errorText(error), error.hint === undefined ? {} : { fix: error.hint });
    } finally {
      // Not empty: another doctor is at it, or its machine is left; the next one sees to it.
      await rmdir(dir).catch(() => undefined);
    }
  },
};

const userNamespaces: Check<DoctorContext> = {
  id: 'host.user-namespaces',
  group: 'host',
  title: 'user namespaces',
  timeoutMs: 2000,
  run: async ({ host }) => {
    if (host.uid === 0) return ok('not needed: images are built as root');
    const problems: Outcome[] = [];
    const setting = async (path: string): Promise<number | undefined> => {
      const text = await readFile(join(host.procDir, 'sys', path), 'utf8').catch(() => undefined);
      return text === undefined ? undefined : Number(text.trim());
    };
    const sysctl = (key: string, value: number): Outcome =>
      warning(`this host forbids user namespaces (${key} is not ${value}): images cannot be built`, {
        fix: `sudo sysctl ${key}=${value}, or build the image once as root`,
      });
    if ((await setting('user/max_user_namespaces')) === 0)
      problems.push(sysctl('user.max_user_namespaces', 15_000));
    if ((await setting('kernel/unprivileged_userns_clone')) === 0) {
      problems.push(sysctl('kernel.unprivileged_userns_clone', 1));
    }
    if ((await setting('kernel/apparmor_restrict_unprivileged_userns')) === 1) {
      problems.push(sysctl('kernel.apparmor_restrict_unprivileged_userns', 0));
    }
    for (const program of ['newuidmap', 'newgidmap']) {
      const installed = await findProgram(program, toolEnv().PATH).catch(() => undefined);
      if (installed !== undefined) continue;
      problems.push(
        warning(`${program} is not installed: images cannot be built`, {
          fix: 'sudo apt-get install uidmap',
        }),
      );
    }
    for (const file of ['subuid', 'subgid']) {
      const path = join(host.etcDir, file);
      const text = await readFile(path, 'utf8').catch(() => '');
      if (hasSubordinateIds(text, host.userName, host.uid)) continue;
      const flag = file === 'subuid' ? '--add-subuids' : '--add-subgids';
      problems.push(
        warning(`user ${host.userName} has no subordinate ids in ${path}: images cannot be built`, {
          fix: `sudo usermod ${flag} 100000-165535 ${host.userName}`,
        }),
      );
    }
    return orOk(problems, 'usable for building images');
  },
};

export const HOST_VIRTUALISATION_CHECKS: readonly Check<DoctorContext>[] = [
  kvm,
  accelerator,
  userNamespaces,
  probe,
];
