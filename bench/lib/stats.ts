/** Figures of repeated runs. Absolute times mean little on a shared machine: quote medians of interleaved pairs and their ratio. */

export interface Summary {
  readonly runs: number;
  readonly min: number;
  readonly p50: number;
  readonly p95: number;
  readonly max: number;
}

export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (fraction: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))] ?? Number.NaN;
  return { runs: sorted.length, min: at(0), p50: at(0.5), p95: at(0.95), max: at(1) };
}

export function median(values: readonly number[]): number {
  return summarize(values).p50;
}

/**
 * Runs two things in turn, A B A B …, after one uncounted run of each, so that a drift of the machine's speed meets both.
 * Each returns its own measure (milliseconds).
 */
export async function interleave(
  runs: number,
  a: () => Promise<number>,
  b: () => Promise<number>,
): Promise<{ readonly a: readonly number[]; readonly b: readonly number[] }> {
  await a();
  await b();
  const results = { a: [] as number[], b: [] as number[] };
  for (let run = 0; run < runs; run++) {
    results.a.push(await a());
    results.b.push(await b());
  }
  return results;
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}
