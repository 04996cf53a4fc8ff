import { isAbsolute, join } from 'node:path';
import { BangerError } from '../../core/errors.ts';
import { findBlock, type IncludeBlock, withBlock, withoutBlock } from '../../core/ssh/include-block.ts';
import { VM_SUFFIX } from '../../core/ssh/client-config.ts';
import type { CliContext } from '../cli-context.ts';
import { defineCommand } from '../command.ts';
import { jsonFlag, toggle } from '../flags.ts';
import { printJson } from '../output/json.ts';
import { withClient } from '../with-client.ts';

export const command = defineCommand({
  description:
    `Makes ssh, scp, sftp, rsync, git and editors reach VM NAME as host NAME${VM_SUFFIX}. Without a flag it prints the settings that takes, ` +
    'and changes nothing. --install includes them at the top of ~/.ssh/config with three marked lines, --uninstall removes these ' +
    'lines; nothing else in that file is touched, and doing either twice is the same as once.',
  examples: [
    { line: 'banger ssh-config --install', brief: 'once; from then on: ssh dev.vm' },
    { line: 'banger ssh-config', brief: 'what it sets' },
    { line: 'banger ssh-config --uninstall', brief: 'and never again' },
  ],
  flags: {
    install: toggle('Include the settings in ~/.ssh/config'),
    uninstall: toggle('Remove them from it'),
    json: jsonFlag,
  },
  async run(context, flags) {
    if (flags.install && flags.uninstall)
      throw new BangerError('usage', '--install and --uninstall exclude each other');
    // To remove the lines, nothing else has to work.
    const setup = flags.uninstall
      ? { configFile: context.ports.sshConfigPath() }
      : await withClient(context, (client) => client.call('ssh.setup', {}));
    if ('config' in setup && !flags.install) {
      if (flags.json) printJson(context.stdout, setup);
      else context.stdout.write(setup.config);
      return;
    }
    const userConfig = userConfigPath(context);
    const { configFile } = setup;
    const edit = (text: string | null): string | null =>
      flags.install ? installed(text, configFile, context) : uninstalled(text, configFile, context);
    const changed = await context.ports.editFile(userConfig, edit);
    if (flags.json) printJson(context.stdout, { userConfig, configFile, changed });
    else context.stdout.write(`${told(flags.install, changed, userConfig)}\n`);
    if (flags.install) warnOfOtherHome(context);
  },
});

function told(isInstall: boolean, changed: boolean, userConfig: string): string {
  if (isInstall)
    return `${userConfig} ${changed ? 'includes banger now' : 'includes banger already'}: ssh NAME${VM_SUFFIX}`;
  return `${userConfig} ${changed ? 'does not include banger any more' : 'does not include banger'}`;
}

function installed(text: string | null, path: string, context: CliContext): string {
  const block = text === null ? undefined : findBlock(text);
  if (text === null || block === undefined) return withBlock(text, path);
  if (block.path === path) return text;
  // Of an instance that is there, it is not ours to take away; one that was removed does not need it.
  if (context.ports.fileExists(block.path)) throw others(block);
  return withBlock(withoutBlock(text, block), path);
}

function uninstalled(text: string | null, path: string, context: CliContext): string | null {
  const block = text === null ? undefined : findBlock(text);
  if (text === null || block === undefined) return text;
  if (block.path !== path && context.ports.fileExists(block.path)) throw others(block);
  return withoutBlock(text, block);
}

function others({ path }: IncludeBlock): BangerError {
  return new BangerError(
    'in_use',
    `hosts NAME${VM_SUFFIX} are those of another banger: ~/.ssh/config includes ${path}`,
    {
      hint: 'run "banger ssh-config --uninstall" with its BANGER_HOME first; without ~/.ssh/config there is "banger vm ssh"',
    },
  );
}

function userConfigPath({ env }: CliContext): string {
  const home = env['HOME'] ?? '';
  if (isAbsolute(home)) return join(home, '.ssh', 'config');
  throw new BangerError('bad_request', 'HOME is not set to an absolute path', {
    hint: 'set HOME to the directory that has .ssh',
  });
}

/** ssh(1) asks the user database where its files are, and not HOME. */
function warnOfOtherHome({ env, ports, stderr }: CliContext): void {
  const home = ports.homeOfUser();
  if (home === null || home === env['HOME']) return;
  stderr.write(
    `banger: ssh itself reads ${join(home, '.ssh', 'config')}, and not the one in HOME (${env['HOME']})\n`,
  );
}
