/** How long and how often: of everything that is asked of a registry. */

import type { HttpLimits } from './http.ts';

export interface RegistryLimits extends HttpLimits {
  /** A request for anything but a blob, with its redirects, logins and repetitions. */
  readonly requestMs: number;
  /** A blob may take `requestMs`, and beyond that as long as it takes at this pace. */
  readonly slowestBytesPerSecond: number;
  /** Before the first repetition; doubled for each further one. */
  readonly retryDelayMs: number;
  /** A registry that asks to come back later than this (`Retry-After`) is not waited for. */
  readonly maxWaitMs: number;
}

export const DEFAULT_LIMITS: RegistryLimits = {
  connectMs: 15_000,
  idleMs: 60_000,
  requestMs: 120_000,
  slowestBytesPerSecond: 16 * 1024,
  retryDelayMs: 250,
  maxWaitMs: 30_000,
};

/** Of requests that a busy registry put off. */
export const MAX_BUSY_ATTEMPTS = 5;
/** Of downloads whose connection was lost. */
export const MAX_LOST_ATTEMPTS = 3;
export const MAX_REDIRECTS = 5;
/** OCI distribution specification v1.1, "Pushing manifests": registries should take at least this much; few take more. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
/** Of what is no content: token answers, error reports. */
export const MAX_ANSWER_BYTES = 64 * 1024;
