/** Who commits: what the guest's git is told as its system-wide configuration, below whatever the guest's user says. */

export interface GitIdentity {
  readonly name?: string;
  readonly email?: string;
}

/** The first line tells the file from one of somebody else, which is left alone. */
const MARKER =
  "# Written by banger from your host's git configuration at each start; without this line it is left alone.";

/** /etc/gitconfig (git-config(1), "Syntax"). */
export function gitConfigText({ name, email }: GitIdentity): string {
  const lines = [MARKER, '[user]'];
  if (name !== undefined) lines.push(`\tname = ${quoted(name)}`);
  if (email !== undefined) lines.push(`\temail = ${quoted(email)}`);
  return `${lines.join('\n')}\n`;
}

/** A value may hold anything but NUL and a line feed as it is. */
function quoted(value: string): string {
  return `"${value.replace(/["\\]/g, '\\$&').replace(/\n/g, '\\n').replaceAll('\0', '')}"`;
}
