/** Checks of what the user set: the file, the environment, what they name. */

import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { BangerError, errorText } from '../../core/errors.ts';
import { nearNames } from '../../core/near-names.ts';
import { systemReason } from '../../core/system-error.ts';
import { vmPolicy } from '../../core/policy/vm-policy.ts';
import { formatSize } from '../../core/units.ts';
import { MAX_CONFIG_BYTES } from '../../host/config.ts';
import { checkConfig } from '../../host/config-check.ts';
import { readTextFile } from '../../host/files.ts';
import { LOG_LEVELS } from '../../host/log-level.ts';
import { IMAGE_RECIPES } from '../../images/image-build.ts';
import { readImageManifest } from '../../images/manifests.ts';
import { type Check, failure, info, ok, type Outcome, orOk, warning } from './check.ts';
import type { DoctorContext } from './context.ts';
import { factsOf } from './host-facts.ts';

/** `banger config check` has them all. */
const MAX_MISTAKES = 5;

function mend(configFile: string): string {
  return `mend ${configFile}: the daemon does not start with it`;
}

const file: Check<DoctorContext> = {
  id: 'config.file',
  group: 'config',
  title: 'settings',
  timeoutMs: 2000,
  run: async (context) => {
    const { configFile } = context.paths;
    if (factsOf(configFile) === undefined) return ok(`no ${configFile}: defaults`);
    let text: string;
    try {
      text = (await readTextFile(configFile, MAX_CONFIG_BYTES)) ?? '';
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      return failure(error.message, { fix: error.hint ?? mend(configFile) });
    }
    // The environment is a check of its own.
    const checked = checkConfig(text, configFile, context.host);
    if ('values' in checked) return ok(configFile);
    const told = checked.problems.slice(0, MAX_MISTAKES);
    const left = checked.problems.length - told.length + checked.unlisted;
    return [
      ...told.map(({ where, line, column, message, hint }) =>
        failure(`${where}:${line}:${column}: ${message}`, { fix: hint ?? mend(configFile) }),
      ),
      ...(left === 0
        ? []
        : [
            failure(`${left} more ${left === 1 ? 'mistake' : 'mistakes'} there`, {
              fix: 'banger config check',
            }),
          ]),
    ];
  },
};

/** docs/config.md. A setting is a programmer's or a test's unless it is read somewhere. */
const KNOWN_VARIABLES: ReadonlySet<string> = new Set([
  'BANGER_HOME',
  'BANGER_LOG_LEVEL',
  'BANGER_DEBUG',
  'BANGER_TEST_ARTIFACTS',
]);
const DIRECTORY_VARIABLES = ['XDG_CONFIG_HOME', 'XDG_STATE_HOME', 'XDG_CACHE_HOME', 'XDG_RUNTIME_DIR'];

const environment: Check<DoctorContext> = {
  id: 'config.environment',
  group: 'config',
  title: 'environment',
  timeoutMs: 1000,
  run: async ({ env }) => {
    const problems: Outcome[] = [];
    const set = Object.keys(env).filter((name) => name.startsWith('BANGER_'));
    for (const name of set.filter((one) => !KNOWN_VARIABLES.has(one))) {
      const near = nearNames(name, [...KNOWN_VARIABLES]).join(' or ');
      const meant = near === '' ? '' : `; did you mean ${near}?`;
      problems.push(
        warning(`${name} is set, and banger knows no such variable${meant}`, { fix: `unset ${name}` }),
      );
    }
    const level = env['BANGER_LOG_LEVEL'] ?? '';
    if (level !== '' && !LOG_LEVELS.some((one) => one === level)) {
      problems.push(
        failure(`BANGER_LOG_LEVEL is ${JSON.stringify(level)}: the daemon does not start with it`, {
          fix: `allowed: ${LOG_LEVELS.join(', ')}`,
        }),
      );
    }
    if ((env['BANGER_HOME'] ?? '') === '') {
      for (const name of DIRECTORY_VARIABLES) {
        const value = env[name] ?? '';
        if (value === '' || isAbsolute(value)) continue;
        problems.push(
          warning(`${name} is not an absolute path, and ignored: ${value}`, { fix: `unset ${name}` }),
        );
      }
    }
    return orOk(problems, set.length === 0 ? 'nothing set' : set.sort().join(', '));
  },
};

const qemuBin: Check<DoctorContext> = {
  id: 'config.qemu-bin',
  group: 'config',
  title: 'qemu_bin',
  timeoutMs: 2000,
  run: async (context) => {
    const { qemuBin: path } = await context.configOrDefault();
    if (path === null) return ok('not set: the one from PATH');
    const fix = `correct qemu_bin in ${context.paths.configFile}, or remove it`;
    try {
      await access(path, constants.X_OK);
      return ok(path);
    } catch (error) {
      return failure(`${path} cannot be executed: ${systemReason(error)}`, { fix });
    }
  },
};

const defaultImage: Check<DoctorContext> = {
  id: 'config.default-image',
  group: 'config',
  title: 'default image',
  timeoutMs: 5000,
  run: async (context) => {
    const { defaultImageName: name } = await context.configOrDefault();
    const rows = await context.rows();
    const published = await readImageManifest(join(context.paths.imagesDir, name)).catch(() => undefined);
    const isHere = published !== undefined || rows?.images.some((image) => image.name === name) === true;
    if (isHere) return ok(`${name} is here`);
    if (IMAGE_RECIPES[name] !== undefined)
      return info(`${name} is not here yet: the first VM builds it, which takes minutes`);
    return failure(`${name} is not here, and banger cannot make it`, {
      fix: `set default_image_name in ${context.paths.configFile} to one of: ${Object.keys(IMAGE_RECIPES).join(', ')}`,
    });
  },
};

const vmDefaults: Check<DoctorContext> = {
  id: 'config.vm-defaults',
  group: 'config',
  title: 'sizes of new VMs',
  timeoutMs: 1000,
  run: async (context) => {
    const { cpus, memoryMib } = context.host;
    try {
      const {
        vcpus,
        memoryMib: memory,
        diskSizeBytes: disk,
      } = vmPolicy(await context.configOrDefault(), {
        cpus,
        memoryMib,
      }).defaults;
      return ok(
        `${vcpus.value} ${vcpus.value === 1 ? 'vCPU' : 'vCPUs'} (${vcpus.source}), ${memory.value} MiB (${memory.source}), ` +
          `disk ${formatSize(disk.value)} (${disk.source})`,
      );
    } catch (error) {
      // config.file tells it with its place.
      return info(`not known: ${errorText(error)}`);
    }
  },
};

export const CONFIG_CHECKS: readonly Check<DoctorContext>[] = [
  file,
  environment,
  qemuBin,
  defaultImage,
  vmDefaults,
];
