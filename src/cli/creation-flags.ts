/** The flags that `vm run` and `vm create` share, and the request they make. */

import { resolve } from 'node:path';
import type { ParamsOf } from '../api/contract.ts';
import { BangerError } from '../core/errors.ts';
import { ACCELERATORS, GUEST_INITS } from '../core/model/vm.ts';
import { WORKSPACE_MODES } from '../core/model/workspace.ts';
import { parsePublishedPort } from '../core/published-port.ts';
import { MIB } from '../core/units.ts';
import { completeImages } from './complete-names.ts';
import { choice, count, type FlagValues, list, size, text, toggle } from './flags.ts';

export const sizingFlags = {
  vcpu: count('N', 'Virtual CPUs', 1),
  memory: size('SIZE', 'Memory: 512MiB, 4G; a bare number counts as MiB'),
  'disk-size': size('SIZE', "Size of the VM's disk: 8G; used space is what it costs on the host"),
};

export const accelFlag = choice(
  [...ACCELERATORS, 'auto'],
  'How the CPU is virtualised. Default: auto, what a probe found to work',
);

export const creationFlags = {
  name: text('NAME', 'Name of the VM: a-z, 0-9 and hyphens, at most 63. Default: one is made up'),
  image: text('IMAGE', 'Image to boot. Default: debian-bookworm, built at its first use', {
    complete: completeImages,
  }),
  ...sizingFlags,
  nat: toggle('Let the VM reach the network; off unless asked for, here or in the settings'),
  'no-nat': toggle('Keep the VM off the network, whatever the settings say'),
  publish: list(
    'PORT',
    'TCP port of the VM for this host, may repeat: [ADDRESS:]HOSTPORT:GUESTPORT; host port 0: any',
    parsePublishedPort,
    { letter: 'p' },
  ),
  init: choice(
    GUEST_INITS,
    "What runs as PID 1: banger's agent (the default, fastest), or the image's systemd",
  ),
  cold: toggle('Boot, even where a template of a booted guest could be restored'),
  accel: accelFlag,
};

export const workspaceFlags = {
  branch: text('BRANCH', 'Make and check out this branch in the copy of the repo'),
  from: text('COMMIT', 'Where --branch begins. Default: HEAD'),
  'include-untracked': toggle('Copy untracked files too; ignored ones never'),
};

export const placementFlags = {
  'guest-path': text('DIR', 'Where in the VM the copy goes. Default: /root/repo'),
  readonly: toggle('A copy that cannot be written to in the VM'),
  mode: choice(WORKSPACE_MODES, 'full_copy: all history, and submodules. Default: the last commits'),
};

type PlacementValues = FlagValues<typeof placementFlags>;
type CreationValues = FlagValues<typeof creationFlags>;
type WorkspaceValues = FlagValues<typeof workspaceFlags>;
type CreateParams = ParamsOf<'vm.create'>;

export function sizingParams(flags: FlagValues<typeof sizingFlags>) {
  return {
    ...(flags.vcpu !== undefined && { vcpus: flags.vcpu }),
    ...(flags.memory !== undefined && { memoryMib: wholeMib(flags.memory) }),
    ...(flags['disk-size'] !== undefined && { diskSizeBytes: flags['disk-size'] }),
  };
}

export function creationParams(flags: CreationValues): CreateParams {
  if (flags.nat && flags['no-nat']) throw new BangerError('usage', '--nat and --no-nat exclude each other');
  return {
    ...(flags.name !== undefined && { name: flags.name }),
    ...(flags.image !== undefined && { image: flags.image }),
    ...sizingParams(flags),
    ...((flags.nat || flags['no-nat']) && { nat: flags.nat }),
    ...(flags.cold && { cold: true }),
    ...(flags.publish.length > 0 && { publish: [...flags.publish] }),
    ...(flags.init !== undefined && { init: flags.init }),
    ...(flags.accel !== undefined && { accel: flags.accel }),
  };
}

export function placementParams(flags: PlacementValues) {
  return {
    ...(flags['guest-path'] !== undefined && { guestPath: flags['guest-path'] }),
    ...(flags.readonly && { readOnly: true }),
    ...(flags.mode !== undefined && { mode: flags.mode }),
  };
}

/** @returns nothing when no path is given */
export function workspaceParams(
  cwd: string,
  path: string | undefined,
  flags: WorkspaceValues & PlacementValues,
): CreateParams['workspace'] {
  if (flags.from !== undefined && flags.branch === undefined) {
    throw new BangerError('usage', '--from needs --branch: it says where that branch begins');
  }
  if (path === undefined) {
    const stray = (['branch', 'include-untracked', 'guest-path', 'readonly', 'mode'] as const).find(
      (name) => flags[name],
    );
    if (stray !== undefined) {
      throw new BangerError('usage', `--${stray} needs a path: the git repo to copy into the VM`, {
        hint: `banger vm run . --${stray}${typeof flags[stray] === 'string' ? ` ${flags[stray]}` : ''}`,
      });
    }
    return undefined;
  }
  return {
    path: resolve(cwd, path),
    ...(flags.branch !== undefined && { branch: flags.branch }),
    ...(flags.from !== undefined && { from: flags.from }),
    ...(flags['include-untracked'] && { includeUntracked: true }),
    ...placementParams(flags),
  };
}

function wholeMib(bytes: number): number {
  if (bytes % MIB !== 0)
    throw new BangerError('usage', `--memory: ${bytes} bytes is not a whole number of MiB`);
  return bytes / MIB;
}
