/** Numeric addresses, without Node: inet_pton(3) accepts the same texts. */

const OCTET = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const IPV4 = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}$`);
const GROUP = /^[0-9a-f]{1,4}$/i;
const GROUPS = 8;

export function isIpv4(text: string): boolean {
  return IPV4.test(text);
}

/** Without a zone (`%eth0`). */
export function isIpv6(text: string): boolean {
  const halves = text.split('::');
  if (halves.length > 2) return false;
  const [head = '', tail] = halves;
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...before, ...after];
  const last = groups.at(-1);
  // The last 32 bits may be written as an IPv4 address; before a `::` they are not the last ones.
  const endsInIpv4 = last?.includes('.') === true && (tail === undefined || after.length > 0);
  if (endsInIpv4 && !isIpv4(last)) return false;
  const plain = endsInIpv4 ? groups.slice(0, -1) : groups;
  if (!plain.every((group) => GROUP.test(group))) return false;
  const count = plain.length + (endsInIpv4 ? 2 : 0);
  return tail === undefined ? count === GROUPS : count < GROUPS;
}
