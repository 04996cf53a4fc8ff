/** Who may open a file of ours: what is expected, what is wrong, and setting it right without following a link. */

import { constants } from 'node:fs';
import { chmod, open } from 'node:fs/promises';
import { BangerError } from '../../core/errors.ts';
import { failure, info, type Outcome, type Repair, warning } from './check.ts';
import { factsOf, octal } from './host-facts.ts';

export interface Expected {
  readonly kind: 'file' | 'directory' | 'socket';
  /** The daemon refuses to work with it when it is wrong: a failure rather than a warning. */
  readonly needed: boolean;
  /** A link in its place is the user's own arrangement. */
  readonly mayBeLink?: boolean;
  /** Bits that must not be set. Default 077: nobody else gets in. */
  readonly forbidden?: number;
  /** Bits that must be set. Default: what reading a file, using a directory or a socket takes. */
  readonly required?: number;
  /** Owned by root is as good as by us. */
  readonly mayBeRoots?: boolean;
}

/** Undefined when it is as expected, or not there. @throws the system's error when it cannot be looked at */
export function modeProblem(path: string, expected: Expected, uid: number): Outcome | undefined {
  const facts = factsOf(path);
  if (facts === undefined) return undefined;
  const wrong = expected.needed ? failure : warning;
  if (facts.kind === 'link') {
    if (expected.mayBeLink === true && facts.uid === uid) return info(`${path} is a symbolic link`);
    return wrong(`${path} is a symbolic link`, { fix: `replace it by what it leads to: ls -l ${path}` });
  }
  if (facts.kind !== expected.kind) {
    const kind = expected.kind === 'file' ? 'regular file' : expected.kind;
    return wrong(`${path} is not a ${kind}`, { fix: `mv ${path} ${path}.old` });
  }
  if (facts.uid !== uid && !(expected.mayBeRoots === true && facts.uid === 0)) {
    return wrong(`${path} belongs to uid ${facts.uid}, not to uid ${uid}`, {
      fix: `sudo chown ${uid} ${path}`,
    });
  }
  const wanted = wantedMode(facts.mode, expected);
  if (wanted === facts.mode) return undefined;
  const forbidden = expected.forbidden ?? 0o077;
  const what = (facts.mode & forbidden) === 0 ? 'closed to its owner' : 'open to other users';
  const command = `chmod ${octal(wanted).replace(/^0/, '')} ${path}`;
  return wrong(`${path} is ${what} (mode ${octal(facts.mode)})`, {
    fix: command,
    ...(facts.uid === uid ? { repair: setMode(command, path, expected, uid) } : {}),
  });
}

const REQUIRED = { directory: 0o700, file: 0o400, socket: 0o600 } as const;

/** Other bits stay as they are. */
function wantedMode(mode: number, { kind, forbidden = 0o077, required = REQUIRED[kind] }: Expected): number {
  return (mode & ~forbidden) | required;
}

/** open(2): a descriptor that only names the file. Not among Node's constants; the same on every architecture it has. */
const O_PATH = 0o10000000;

function setMode(what: string, path: string, expected: Expected, uid: number): Repair {
  return {
    what,
    needsLock: false,
    apply: async () => {
      // Between a look and a chmod of the same path somebody could put a link there. Closing such a descriptor drops
      // no lock that SQLite holds on the file: the kernel skips that for O_PATH.
      await using file = await open(path, O_PATH | constants.O_NOFOLLOW);
      const stat = await file.stat();
      const kinds = { file: stat.isFile(), directory: stat.isDirectory(), socket: stat.isSocket() };
      if (!kinds[expected.kind] || stat.uid !== uid) {
        throw new BangerError('permission', `${path} is not what it was any more`);
      }
      await chmod(`/proc/self/fd/${file.fd}`, wantedMode(stat.mode & 0o7777, expected));
    },
  };
}
