import { resolve } from 'node:path';
import type { ParamsOf } from '../../../api/contract.ts';
import type { VmCopied } from '../../../api/results/vm.ts';
import { BangerError } from '../../../core/errors.ts';
import { counted, formatSize } from '../../../core/units.ts';
import { defineCommand } from '../../command.ts';
import { completeVms } from '../../complete-names.ts';
import type { CliContext } from '../../cli-context.ts';
import { jsonFlag, toggle } from '../../flags.ts';
import { longCall, withProgress } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { printable } from '../../output/table.ts';
import { assertPiped, type Carry, streamedCall } from '../../streamed-call.ts';
import { withClient } from '../../with-client.ts';

const STREAM = '-';

export const command = defineCommand({
  description:
    'Copies a file or a tree; one of SRC and DST is VM:PATH, which is below /root unless it begins with "/". Into a directory that ' +
    'exists things go under their own name, else DST is their new name; SRC/. is what is in SRC. Files that are there are replaced, each when the ' +
    'new one is whole. "-" is stdin or stdout, for one file. Modes, times, symbolic links and holes are kept; in the VM everything belongs to root.',
  examples: [
    { line: 'banger vm cp notes.txt dev:', brief: 'a file, to /root/notes.txt' },
    { line: 'banger vm cp dev:/var/log/. ./logs', brief: 'what is in a directory, into another' },
    { line: 'pg_dump db | banger vm cp - dev:/tmp/db.sql', brief: 'from a pipe' },
  ],
  argument: {
    placeholder: 'SRC',
    brief: 'PATH, VM:PATH or "-"',
    minimum: 1,
    maximum: 1,
    isPath: true,
    complete: completeEnds,
    second: { placeholder: 'DST', brief: 'VM:PATH, PATH or "-"', complete: completeEnds, required: true },
  },
  flags: {
    'follow-link': toggle('Copy what SRC leads to, where it is a symbolic link', { letter: 'L' }),
    json: jsonFlag,
  },
  async run(context, flags, [source = '', target = '']) {
    const params = { ...endsOf(context, source, target), follow: flags['follow-link'] };
    const copied =
      params.hostPath === undefined
        ? await streamed(context, params, flags.json)
        : await direct(context, params);
    report(context, copied, flags.json, target === STREAM);
  },
});

type Params = ParamsOf<'vm.cp'>;

async function direct(context: CliContext, params: Params): Promise<VmCopied> {
  return await withClient(context, (client) => longCall(context, client, 'vm.cp', params));
}

async function streamed(context: CliContext, params: Params, json: boolean): Promise<VmCopied> {
  if (params.to === 'host' && json)
    throw new BangerError('usage', 'with "-" the file is on stdout: there is no place for JSON');
  if (params.to === 'host') assertPiped(context, 'stdout');
  const carry: Carry = (ticket, signal) =>
    params.to === 'host'
      ? context.ports.copyStream(ticket, signal)
      : context.ports.feedStream(ticket, signal);
  return await withClient(context, (client) =>
    withProgress(context, (work) =>
      streamedCall<'vm.cp'>(client, work, carry, (stream) =>
        client.call('vm.cp', { ...params, stream }, work),
      ),
    ),
  );
}

function report(context: CliContext, copied: VmCopied, json: boolean, isStdout: boolean): void {
  for (const path of copied.skipped) {
    context.stderr.write(`banger: left out ${printable(path)}: not a file, directory or link\n`);
  }
  const unnamed = copied.skippedCount - copied.skipped.length;
  if (unnamed > 0) context.stderr.write(`banger: left out ${unnamed} more\n`);
  if (json) printJson(context.stdout, copied);
  else if (!isStdout) {
    const counts = [counted(copied.files, 'file'), copied.links > 0 ? counted(copied.links, 'link') : ''];
    context.stdout.write(`${counts.filter((text) => text !== '').join(', ')}, ${formatSize(copied.bytes)}\n`);
  }
}

/** @throws {BangerError} `usage` */
function endsOf(context: CliContext, source: string, target: string): Omit<Params, 'follow'> {
  const [from, to] = [inVm(source), inVm(target)];
  if (from !== undefined && to !== undefined) {
    throw new BangerError('usage', 'SRC and DST both name a VM, and one of them must be on this host', {
      hint: `a file here with a colon in its name: ./${source}; between VMs: banger vm exec ${from.ref} -- tar c -C DIR NAME | banger vm exec ${to.ref} -- tar x -C DIR`,
    });
  }
  const end = from ?? to;
  if (end === undefined) {
    throw new BangerError('usage', 'neither SRC nor DST is in a VM', {
      hint: 'write VM:PATH, for instance: banger vm cp notes.txt dev:/tmp/',
    });
  }
  const host = from === undefined ? source : target;
  return {
    ...{ ref: end.ref, guestPath: end.path, to: from === undefined ? 'guest' : 'host' },
    ...(host !== STREAM && { hostPath: absolute(context.cwd, host) }),
  };
}

/** `VM:PATH`; a path of the host that looks like it is written `./a:b`. */
function inVm(end: string): { readonly ref: string; readonly path: string } | undefined {
  const match = /^([a-z0-9][a-z0-9-]*):(.*)$/s.exec(end);
  if (match === null) return undefined;
  return { ref: match[1] ?? '', path: match[2] ?? '' };
}

/** What the end of a path says stays: a slash, or that it is the contents. */
function absolute(cwd: string, path: string): string {
  const whole = resolve(cwd, path);
  if (/(^|\/)\.{1,2}\/*$/.test(path)) return whole === '/' ? whole : `${whole}/.`;
  return path.endsWith('/') && whole !== '/' ? `${whole}/` : whole;
}

async function completeEnds(context: CliContext, _partial: string): Promise<readonly string[]> {
  return (await completeVms(context)).map((name) => `${name}:`);
}
