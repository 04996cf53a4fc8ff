/** What a server wants to be told before it answers: `WWW-Authenticate`, RFC 9110 section 11.6.1. */

export interface Challenge {
  /** Lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Names in lower case. Of a name given twice, the first. */
  readonly parameters: ReadonlyMap<string, string>;
}

const MAX_HEADER_LENGTH = 8192;
const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const PARAMETER = new RegExp(
  `^[ \\t]*(${TOKEN})[ \\t]*=[ \\t]*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))[ \\t]*(,|$)`,
);
const SCHEME = new RegExp(`^[ \\t,]*(${TOKEN})(?:[ \\t]+|$|(?=,))`);
const TOKEN68 = /^[A-Za-z0-9._~+/-]+=*[ \t]*(,|$)/;

/** The challenges up to the first thing that is none; none for a header that is too long. */
export function parseChallenges(header: string): readonly Challenge[] {
  const challenges: Challenge[] = [];
  let rest = header.length > MAX_HEADER_LENGTH ? '' : header;
  for (;;) {
    const scheme = SCHEME.exec(rest);
    if (scheme === null) return challenges;
    rest = rest.slice(scheme[0].length);
    const parameters = new Map<string, string>();
    challenges.push({ scheme: (scheme[1] ?? '').toLowerCase(), parameters });
    for (;;) {
      const parameter = PARAMETER.exec(rest);
      if (parameter === null) break;
      const [whole, name = '', inQuotes, bare = ''] = parameter;
      const value = inQuotes === undefined ? bare : inQuotes.replaceAll(/\\(.)/g, '$1');
      if (!parameters.has(name.toLowerCase())) parameters.set(name.toLowerCase(), value);
      rest = rest.slice(whole.length);
    }
    const blob = parameters.size === 0 ? TOKEN68.exec(rest) : null;
    if (blob !== null) rest = rest.slice(blob[0].length);
  }
}
