/** The file that says which host key each VM has: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Only banger writes it. */

import { isId } from '../names.ts';
import { VM_SUFFIX } from './client-config.ts';

export interface KnownHost {
  readonly vmId: string;
  readonly name: string;
  /** `ssh-ed25519 AAAA…` */
  readonly publicKey: string;
}

/** Also for a client that was told of another port: what ssh looks for is then in brackets. */
function lineOf({ vmId, name, publicKey }: KnownHost): string {
  const host = `${name}${VM_SUFFIX}`;
  return `${host},[${host}]:* ${publicKey} ${vmId}\n`;
}

/**
 * The file with a line for this VM, and without those of VMs that are gone or had its name before.
 * @param exists whether there is a VM of that id
 */
export function withHost(file: string, host: KnownHost, exists: (vmId: string) => boolean): string {
  const line = lineOf(host);
  const names = line.slice(0, line.indexOf(' '));
  const others = linesOf(file).filter(
    (other) => !other.startsWith(`${names} `) && vmIdOf(other) !== host.vmId && exists(vmIdOf(other)),
  );
  return [...others, line].join('');
}

/** The file without the line of this VM. */
export function withoutHost(file: string, vmId: string): string {
  return linesOf(file)
    .filter((line) => vmIdOf(line) !== vmId)
    .join('');
}

/** Whole lines; what an editor or a damaged disk left otherwise is dropped. */
function linesOf(file: string): readonly string[] {
  return file
    .split('\n')
    .map((line) => `${line}\n`)
    .filter((line) => vmIdOf(line) !== '');
}

function vmIdOf(line: string): string {
  const id = line.trimEnd().split(' ')[3] ?? '';
  return isId(id) ? id : '';
}

/** The type and the key of a line as `ssh-keygen` writes them into NAME.pub; undefined: it is none. */
export function publicKeyOf(line: string): string | undefined {
  return /^([a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2})(?: [^\n]*)?\n?$/.exec(line)?.[1];
}
