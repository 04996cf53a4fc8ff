import { join, resolve } from 'node:path';
import { BangerError } from '../../core/errors.ts';
import { findBlock, type IncludeBlock, withBlock, withoutBlock } from '../../core/ssh/include-block.ts';
import { VM_SUFFIX } from '../../core/ssh/client-config.ts';
import type { CliContext } from '../cli-context.ts';
import { defineCommand } from '../command.ts';
import { jsonFlag, text, toggle } from '../flags.ts';
import { printJson } from '../output/json.ts';
import { withClient } from '../with-client.ts';

export const command = defineCommand({
  description:
    `Makes ssh, scp, sftp, rsync, git and editors reach VM NAME as host NAME${VM_SUFFIX}. Without a flag it prints the settings that takes, ` +
    'and changes nothing. --install includes them at the top of ~/.ssh/config with three marked lines, --uninstall removes these ' +
    'lines; nothing else in that file is touched, and doing either twice is the same as once. As for ssh, ~ is your home ' +
    'directory in the user database, whatever HOME says.',
  examples: [
    { line: 'banger ssh-config --install', brief: 'once; from then on: ssh dev.vm' },
    { line: 'banger ssh-config', brief: 'what it sets' },
    { line: 'banger ssh-config --uninstall', brief: 'and never again' },
    { line: 'banger ssh-config --install --file vms.conf', brief: 'for: ssh -F vms.conf dev.vm' },
  ],
  flags: {
    install: toggle('Include the settings in ~/.ssh/config'),
    uninstall: toggle('Remove them from it'),
    file: text('FILE', 'The file to change instead of ~/.ssh/config'),
    json: jsonFlag,
  },
  async run(context, flags) {
    if (flags.install && flags.uninstall)
      throw new BangerError('usage', '--install and --uninstall exclude each other');
    if (flags.file !== undefined && !flags.install && !flags.uninstall)
      throw new BangerError('usage', '--file needs --install or --uninstall');
    // To remove the lines, nothing else has to work.
    const setup = flags.uninstall
      ? { configFile: context.ports.sshConfigPath() }
      : await withClient(context, (client) => client.call('ssh.setup', {}));
    if ('config' in setup && !flags.install) {
      if (flags.json) printJson(context.stdout, setup);
      else context.stdout.write(setup.config);
      return;
    }
    const userConfig = flags.file === undefined ? sshsConfig(context) : resolve(context.cwd, flags.file);
    const { configFile } = setup;
    const edit = flags.install ? installed : uninstalled;
    const uninstall = `banger ssh-config --uninstall${flags.file === undefined ? '' : ` --file ${userConfig}`}`;
    const change = (before: string | null): string | null =>
      edit(before, { userConfig, configFile, uninstall, context });
    const changed = await context.ports.editFile(userConfig, change);
    if (flags.json) printJson(context.stdout, { userConfig, configFile, changed });
    else context.stdout.write(`${told(flags.install, changed, userConfig)}\n`);
    if (flags.file === undefined) tellOfOtherHome(context);
  },
});

function told(isInstall: boolean, changed: boolean, userConfig: string): string {
  if (isInstall)
    return `${userConfig} ${changed ? 'includes banger now' : 'includes banger already'}: ssh NAME${VM_SUFFIX}`;
  return `${userConfig} ${changed ? 'does not include banger any more' : 'does not include banger'}`;
}

interface Edit {
  /** The file that is changed. */
  readonly userConfig: string;
  /** The one it includes. */
  readonly configFile: string;
  /** The command that takes it out again. */
  readonly uninstall: string;
  readonly context: CliContext;
}

function installed(before: string | null, edit: Edit): string {
  const block = before === null ? undefined : findBlock(before);
  if (before === null || block === undefined) return withBlock(before, edit.configFile);
  if (block.path === edit.configFile) return before;
  // Of an instance that is there, it is not ours to take away; one that was removed does not need it.
  if (edit.context.ports.fileExists(block.path)) throw others(block, edit);
  return withBlock(withoutBlock(before, block), edit.configFile);
}

function uninstalled(before: string | null, edit: Edit): string | null {
  const block = before === null ? undefined : findBlock(before);
  if (before === null || block === undefined) return before;
  if (block.path !== edit.configFile && edit.context.ports.fileExists(block.path)) throw others(block, edit);
  return withoutBlock(before, block);
}

function others({ path }: IncludeBlock, { userConfig, uninstall }: Edit): BangerError {
  return new BangerError(
    'in_use',
    `hosts NAME${VM_SUFFIX} are those of another banger: ${userConfig} includes ${path}`,
    {
      hint: `run "${uninstall}" with its BANGER_HOME first; "banger vm ssh" needs no such file`,
    },
  );
}

/** ssh(1) asks the user database where its files are, and not HOME; without an entry there it does not run at all. */
function sshsConfig({ ports }: CliContext): string {
  const home = ports.homeOfUser();
  if (home !== null) return join(home, '.ssh', 'config');
  throw new BangerError('bad_request', 'the user database (getent passwd) has no entry for your user id', {
    hint: 'ssh does not run without one; banger vm exec does',
  });
}

function tellOfOtherHome({ env, ports, stderr }: CliContext): void {
  const home = env['HOME'];
  if (home === undefined || home === '' || home === ports.homeOfUser()) return;
  stderr.write(`banger: that is the file ssh reads, and not the one in HOME (${home})\n`);
}
