/** What `engines.node` of package.json means: a range of versions, and the one to install for it. */

type Version = readonly [number, number, number];

/** From `low` to below `high`; null: without end. */
interface Interval {
  readonly low: Version;
  readonly high: Version | null;
}

const MAX_RANGE = 256;
const MAX_ALTERNATIVES = 16;
/** The newest line of Node with long-term support as this was written: https://nodejs.org/en/about/previous-releases */
const NEWEST_LTS = 24;
const ANYTHING: Interval = { low: [0, 0, 0], high: null };

const COMPARATOR =
  /^(>=|<=|>|<|=|\^|~>?)?v?(\d{1,6}|[xX*])(?:\.(\d{1,6}|[xX*]))?(?:\.(\d{1,6}|[xX*]))?(?:[-+][0-9A-Za-z.+-]+)?$/;

/**
 * The version to install for a range, as mise takes it:
 * - without an upper end (`>=18`): `lts`, or the lower end's line when that is newer;
 * - else the newest line below the upper end: `>=18 <21` is `20`, `^18 || ^20` is `20`, `<20.5` is `20.4`, `18.12.1` itself.
 *
 * @returns null: any version will do; undefined: not a range
 */
export function versionForRange(range: string): string | null | undefined {
  const intervals = parseRange(range);
  if (intervals === undefined) return undefined;
  const best = intervals.reduce((one, other) => (isHigher(other, one) ? other : one));
  if (best.high !== null) return newestBelow(best.high, best.low);
  if (compare(best.low, [0, 0, 0]) === 0) return null;
  return best.low[0] > NEWEST_LTS ? String(best.low[0]) : 'lts';
}

/** Whether some version that `version` stands for is in the range; true when that cannot be told (`lts`). */
export function mayFitRange(range: string, version: string): boolean {
  const intervals = parseRange(range);
  const wanted = parseComparator(version);
  if (intervals === undefined || wanted === undefined) return true;
  return intervals.some((interval) => !isEmpty(intersection(interval, wanted)));
}

/** Never empty. */
function parseRange(range: string): readonly Interval[] | undefined {
  const alternatives = range.split('||');
  if (range.length > MAX_RANGE || alternatives.length > MAX_ALTERNATIVES) return undefined;
  const intervals: Interval[] = [];
  for (const alternative of alternatives) {
    const interval = parseAlternative(alternative.trim());
    if (interval === undefined) return undefined;
    if (!isEmpty(interval)) intervals.push(interval);
  }
  return intervals.length === 0 ? undefined : intervals;
}

function parseAlternative(text: string): Interval | undefined {
  if (text === '') return ANYTHING;
  const hyphen = /^(\S+)\s+-\s+(\S+)$/.exec(text);
  const joined = hyphen === null ? text.replace(/([<>=~^])\s+/g, '$1') : `>=${hyphen[1]} <=${hyphen[2]}`;
  let all = ANYTHING;
  for (const part of joined.split(/\s+/)) {
    const interval = parseComparator(part);
    if (interval === undefined) return undefined;
    all = intersection(all, interval);
  }
  return all;
}

function parseComparator(text: string): Interval | undefined {
  const match = COMPARATOR.exec(text);
  if (match === null) return undefined;
  const given = [match[2], match[3], match[4]].map((part) => (part === undefined ? NaN : Number(part)));
  const known = given.findIndex((part) => Number.isNaN(part));
  const count = known === -1 ? 3 : known;
  if (count === 0) return ANYTHING;
  const version: Version = [given[0] ?? 0, count > 1 ? (given[1] ?? 0) : 0, count > 2 ? (given[2] ?? 0) : 0];
  const next = after(version, count);
  switch (match[1]) {
    case '>=':
      return { low: version, high: null };
    case '>':
      return { low: next, high: null };
    case '<':
      return { low: [0, 0, 0], high: version };
    case '<=':
      return { low: [0, 0, 0], high: next };
    case '^':
      return { low: version, high: after(version, version[0] > 0 || count === 1 ? 1 : 2) };
    case '~':
    case '~>':
      return { low: version, high: after(version, Math.min(count, 2)) };
    default:
      return { low: version, high: next };
  }
}

/** The first version behind all that begin with the first `count` numbers of this one. */
function after([major, minor, patch]: Version, count: number): Version {
  if (count === 1) return [major + 1, 0, 0];
  return count === 2 ? [major, minor + 1, 0] : [major, minor, patch + 1];
}

/** The longest-living line wholly below `high`; one that exists, where `high` is far beyond those that do. */
function newestBelow(high: Version, low: Version): string {
  const known: Version = [NEWEST_LTS + 1, 0, 0];
  const end = compare(high, known) > 0 && compare(low, known) < 0 ? known : high;
  const [major, minor, patch] = end;
  if (patch > 0) return `${major}.${minor}.${patch - 1}`;
  return minor > 0 ? `${major}.${minor - 1}` : String(major - 1);
}

function intersection(a: Interval, b: Interval): Interval {
  const low = compare(a.low, b.low) >= 0 ? a.low : b.low;
  if (a.high === null) return { low, high: b.high };
  return { low, high: b.high === null || compare(a.high, b.high) <= 0 ? a.high : b.high };
}

function isEmpty({ low, high }: Interval): boolean {
  return high !== null && compare(low, high) >= 0;
}

function isHigher(a: Interval, b: Interval): boolean {
  if (b.high === null) return a.high === null && compare(a.low, b.low) < 0;
  return a.high === null || compare(a.high, b.high) > 0;
}

function compare(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}
