/** What a name or an id may be. Checked where it enters; never rewritten. */

import { BangerError } from './errors.ts';

/** A DNS label: RFC 1123 section 2.1. */
export const MAX_NAME_LENGTH = 63;
export const SHORT_ID_LENGTH = 12;

/** Characters of user input repeated in a message at most. */
const MAX_QUOTED = 80;

/** Names that mean something else wherever the VM's name is used as a host name. */
const RESERVED_VM_NAMES: ReadonlySet<string> = new Set(['localhost']);

/** A whole id, or a short id as lists print it: a VM of that name could not be told from a VM of that id. */
const LOOKS_LIKE_AN_ID = /^(?:[0-9a-f]{12}|[0-9a-f]{32})$/;

/**
 * A VM's name is its host name in the guest, a DNS label and a directory's neighbour: 1-63 of a-z, 0-9 and hyphen,
 * no hyphen at either end.
 * @throws {BangerError} `bad_request` saying what is wrong with it
 */
export function assertVmName(name: string): void {
  const wrong = labelProblem(name) ?? vmNameProblem(name);
  if (wrong === undefined) return;
  throw new BangerError('bad_request', `the VM name ${quote(name)} ${wrong}`, {
    hint: `1-${MAX_NAME_LENGTH} characters: a-z, 0-9 and hyphens, no hyphen at either end`,
  });
}

function labelProblem(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (name.length > MAX_NAME_LENGTH) return `has ${name.length} characters; the limit is ${MAX_NAME_LENGTH}`;
  const bad = /[^a-z0-9-]/u.exec(name)?.[0];
  if (bad !== undefined) {
    return /[A-Z]/.test(bad) ? 'has capital letters' : `contains ${quote(bad)}`;
  }
  if (name.startsWith('-')) return 'begins with a hyphen';
  if (name.endsWith('-')) return 'ends with a hyphen';
  return undefined;
}

function vmNameProblem(name: string): string | undefined {
  if (RESERVED_VM_NAMES.has(name)) return 'is reserved';
  if (LOOKS_LIKE_AN_ID.test(name)) return 'looks like a VM id';
  return undefined;
}

/**
 * An image's or kernel's name is a directory's name: 1-63 of a-z, 0-9, dot, underscore and hyphen, a letter or digit
 * at both ends, no two dots in a row.
 * @throws {BangerError} `bad_request` saying what is wrong with it
 */
export function assertImageName(name: string, what: 'image' | 'kernel' = 'image'): void {
  const wrong = imageNameProblem(name);
  if (wrong === undefined) return;
  throw new BangerError('bad_request', `the ${what} name ${quote(name)} ${wrong}`, {
    hint: `1-${MAX_NAME_LENGTH} characters: a-z, 0-9, ".", "_" and "-", a letter or digit at both ends`,
  });
}

function imageNameProblem(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (name.length > MAX_NAME_LENGTH) return `has ${name.length} characters; the limit is ${MAX_NAME_LENGTH}`;
  const bad = /[^a-z0-9._-]/u.exec(name)?.[0];
  if (bad !== undefined) {
    return /[A-Z]/.test(bad) ? 'has capital letters' : `contains ${quote(bad)}`;
  }
  if (!/^[a-z0-9]/.test(name)) return `begins with ${quote(name.slice(0, 1))}`;
  if (!/[a-z0-9]$/.test(name)) return `ends with ${quote(name.slice(-1))}`;
  if (name.includes('..')) return 'contains ".."';
  return undefined;
}

/** 32 lower-case hex digits. */
export function isId(text: string): boolean {
  return /^[0-9a-f]{32}$/.test(text);
}

/** The form lists print and references accept: the first 12 digits. */
export function shortId(id: string): string {
  return id.slice(0, SHORT_ID_LENGTH);
}

/** JSON quoting keeps control characters of a hostile name out of the terminal. */
function quote(text: string): string {
  const quoted = JSON.stringify(text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text);
  return quoted.replace(/[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
