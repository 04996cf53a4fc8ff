/** Remote addresses without the secrets people put into them. */

/** Protocols whose user part is a login name that is needed to connect, and is no secret by itself. */
const LOGIN_PROTOCOLS = /^(?:ssh|git\+ssh|ssh\+git):$/i;
const URL_SHAPE = /^([a-z][a-z0-9+.-]*:)\/\/([^/?#]*)([^?#]*)/i;
/** Anything else where the host should be may be part of a password with a slash in it. */
const HOST_SHAPE = /^(?:\[[0-9a-f:.%]+\]|[^:[\]]*)(?::\d*)?$/i;
/** `<helper>::<address>`, gitremote-helpers(7). */
const HELPER_SHAPE = /^([a-z0-9-]+)::(.*)$/is;
/** Helpers that run whatever the address says. */
const COMMAND_HELPERS = new Set(['ext', 'fd']);

/**
 * The address of a git remote, fit to be written where others can read it: user and password, query and fragment are
 * removed from URLs; of ssh URLs only the password, since `git@` there is the account to log in to. Local paths and
 * `user@host:path` stay as they are. Undefined when nothing safe is left (an `ext::` command, a control character,
 * no host where one should be).
 */
export function redactRemoteUrl(url: string): string | undefined {
  if (url === '' || hasControlCharacter(url)) return undefined;
  const helper = HELPER_SHAPE.exec(url);
  if (helper !== null) {
    const [, name = '', address = ''] = helper;
    if (COMMAND_HELPERS.has(name.toLowerCase())) return undefined;
    const inner = redactRemoteUrl(address);
    return inner === undefined ? undefined : `${name}::${inner}`;
  }
  const parts = URL_SHAPE.exec(url);
  if (parts === null) return url;
  const [, protocol = '', authority = '', path = ''] = parts;
  const at = authority.lastIndexOf('@');
  const host = authority.slice(at + 1);
  if (!HOST_SHAPE.test(host)) return undefined;
  const user = authority.slice(0, Math.max(at, 0)).split(':', 1)[0] ?? '';
  const keepUser = LOGIN_PROTOCOLS.test(protocol) && user !== '';
  return `${protocol}//${keepUser ? `${user}@` : ''}${host}${path}`;
}

function hasControlCharacter(text: string): boolean {
  for (const character of text) if (character < ' ' || character === '\x7f') return true;
  return false;
}
