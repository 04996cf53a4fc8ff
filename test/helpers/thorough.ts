/**
 * How much the tests try that do the same thing at many moments. Every step has its moments in each run; with `THOROUGH=1` there
 * are more of them.
 */

export const THOROUGH = process.env['THOROUGH'] === '1';

/** @param more tried besides, with `THOROUGH=1` */
export function atMoments<const T, const U>(always: readonly T[], more: readonly U[]): readonly (T | U)[] {
  return THOROUGH ? [...always, ...more] : always;
}
