/** The host's wall clock as guests are set to it. */

/** Nanoseconds since 1970, in the middle of the millisecond that has begun. */
export function wallClockNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n + 500_000n;
}
