/** Names one is likely to have meant by one that there is not. */

const MAX_NAMES = 5;
/** A name this many edits away is worth a hint, when that is no more than half of it. */
const MAX_DISTANCE = 2;

/** Those that are written nearly alike, or have `written` inside; at most 5, in the order given. */
export function nearNames(written: string, names: readonly string[]): readonly string[] {
  const far = Math.min(MAX_DISTANCE, Math.floor(written.length / 2));
  return names
    .filter((name) => editDistance(name, written) <= far || isInside(written, name))
    .slice(0, MAX_NAMES);
}

function isInside(written: string, name: string): boolean {
  return written.length >= 3 && name.includes(written);
}

/** Levenshtein's, but anything far apart in length is simply far. */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > MAX_DISTANCE) return MAX_DISTANCE + 1;
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitute = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitute, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
