import { BangerError } from '../../core/errors.ts';
import type { CliClient, CliContext } from '../cli-context.ts';
import { defineCommand } from '../command.ts';
import { jsonFlag } from '../flags.ts';
import { reportError } from '../output/errors.ts';
import { withClient } from '../with-client.ts';

const BANGER_FAILED = 125;
const SERVICES: ReadonlySet<string> = new Set(['git-upload-pack', 'git-receive-pack']);
/** Of what a guest sends in answer to one fetch: it could go on for ever. */
const MAX_FETCH_BYTES = 16 * 1024 ** 3;

export const command = defineCommand({
  description:
    'What git runs, as git-remote-banger, for addresses of the form banger::VM[:PATH]. Speaks the protocol of remote helpers on ' +
    'stdin and stdout and connects git to its counterpart in the VM.',
  examples: [{ line: 'banger __git-remote -- origin dev', brief: 'what "git clone banger::dev" runs' }],
  commandBrief: 'The name of the remote and its address, as git gives them',
  flags: { json: jsonFlag },
  ownFailureStatus: () => BANGER_FAILED,
  async run(context) {
    const [, address] = context.commandArgv ?? [];
    if (address === undefined || address === '')
      throw new BangerError('usage', 'this is run by git, with the name of a remote and an address');
    const place = parseAddress(address);
    for (;;) {
      const line = context.ports.readCommandLine();
      if (line === null || line === '') return 0;
      if (line === 'capabilities') await say(context, 'connect\n\n');
      else return await connect(context, line, place);
    }
  },
});

interface Place {
  readonly vm: string;
  /** Null: the workspace. */
  readonly path: string | null;
}

/** `VM`, `VM:PATH`, and what git makes of `banger://VM/PATH`. */
export function parseAddress(address: string): Place {
  const url = /^banger:\/\/([^/]*)(\/.*)?$/s.exec(address);
  const at = address.indexOf(':');
  const vm = url === null ? address.slice(0, at < 0 ? undefined : at) : (url[1] ?? '');
  const path = url === null ? (at < 0 ? null : address.slice(at + 1)) : (url[2] ?? null);
  if (vm !== '' && !vm.includes('/') && path !== '') return { vm, path };
  throw new BangerError('usage', `"${address}" names no VM`, { hint: 'banger::VM or banger::VM:PATH' });
}

async function connect(context: CliContext, line: string, place: Place): Promise<number> {
  const service = /^connect (\S+)$/.exec(line)?.[1] ?? '';
  if (!SERVICES.has(service)) throw new BangerError('unsupported', `git asks for "${line}"`);
  return await withClient(context, async (client) => {
    const argv = await serviceArgv(client, service.slice('git-'.length), place);
    // From here on the streams are git's.
    await say(context, '\n');
    const params = { ref: place.vm, argv, cwd: '' };
    return await context.ports.session(client, params, (error) => reportError(context, error, false), {
      maxOutputBytes: MAX_FETCH_BYTES,
    });
  });
}

async function serviceArgv(client: CliClient, service: string, place: Place): Promise<string[]> {
  const path = place.path ?? (await workspaceOf(client, place.vm));
  // What banger keeps there is its own business.
  const settings = ['-c', 'safe.directory=*', '-c', 'transfer.hideRefs=refs/banger'];
  return ['git', ...settings, service, '--', path];
}

async function workspaceOf(client: CliClient, ref: string): Promise<string> {
  const { name, workspace } = await client.call('vm.show', { ref });
  if (workspace !== null) return workspace.guestPath;
  throw new BangerError('not_found', `VM "${name}" has no copy of a repository`, {
    hint: `say where the repository is: banger::${name}:/root/REPO`,
  });
}

async function say(context: CliContext, text: string): Promise<void> {
  await context.ports.writeBytes(Buffer.from(text));
}
