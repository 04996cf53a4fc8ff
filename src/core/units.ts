/** Sizes and durations as people write and read them. */

import { BangerError } from './errors.ts';

const KIB = 1024;
export const MIB = KIB ** 2;
export const GIB = KIB ** 3;

const SIZE_FACTORS: Readonly<Record<string, number>> = {
  b: 1,
  k: KIB,
  kib: KIB,
  m: MIB,
  mib: MIB,
  g: GIB,
  gib: GIB,
  t: KIB ** 4,
  tib: KIB ** 4,
};
const DURATION_FACTORS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const MAX_TEXT = 64;

/**
 * Bytes of "4G", "4GiB", "512 MiB", "1.5g", "4096B"; a bare number counts as MiB. Powers of 1024, any case.
 * `what` names the value in the message.
 * @throws {BangerError} `bad_request`
 */
export function parseSize(text: string, what = 'size'): number {
  const match = text.length > MAX_TEXT ? null : /^(-?\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = match?.[2]?.toLowerCase() ?? '';
  const factor = unit === '' ? MIB : Object.hasOwn(SIZE_FACTORS, unit) ? SIZE_FACTORS[unit] : undefined;
  if (match === null || factor === undefined) {
    throw new BangerError('bad_request', `${what} ${quote(text)} is not a size`, {
      hint: 'write a number with K, M, G or T (powers of 1024, "4G" or "4GiB"); a bare number counts as MiB',
    });
  }
  const bytes = Number(match[1]) * factor;
  if (text.trim().startsWith('-')) throw new BangerError('bad_request', `${what} ${quote(text)} is negative`);
  if (!Number.isSafeInteger(bytes)) {
    const why = bytes > Number.MAX_SAFE_INTEGER ? 'is too large' : 'is not a whole number of bytes';
    throw new BangerError('bad_request', `${what} ${quote(text)} ${why}`);
  }
  return bytes;
}

const SIZE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** For people: "8 GiB", "1.5 GiB", "312 B". At most one decimal, so not every number reads back exactly. */
export function formatSize(bytes: number): string {
  const { value, unit } = scale(bytes);
  return `${value} ${SIZE_UNITS[unit]}`;
}

/** As `formatSize`, in the width a table or a `spec:` line has: "8G", "1.5G", "312B". */
export function formatSizeShort(bytes: number): string {
  const { value, unit } = scale(bytes);
  return `${value}${SIZE_UNITS[unit]?.[0]}`;
}

function scale(bytes: number): { readonly value: string; readonly unit: number } {
  let value = bytes;
  let unit = 0;
  // 1023.95 would print as "1024.0": the next unit is the honest one.
  while (Math.abs(value) >= (unit === 0 ? KIB : 1023.95) && unit < SIZE_UNITS.length - 1) {
    value /= KIB;
    unit += 1;
  }
  return { value: decimal(value), unit };
}

/** At most one decimal, and none when it is zero. */
function decimal(value: number): string {
  const text = value.toFixed(1);
  return text.endsWith('.0') ? text.slice(0, -2) : text;
}

/**
 * Milliseconds of "10s", "1h30m", "500ms", "1.5s", "2d"; "0" needs no unit.
 * @throws {BangerError} `bad_request`
 */
export function parseDuration(text: string, what = 'duration'): number {
  const trimmed = text.trim();
  if (trimmed === '0') return 0;
  const wrong = new BangerError('bad_request', `${what} ${quote(text)} is not a duration`, {
    hint: 'write numbers with ms, s, m, h or d: "90s", "1h30m", "500ms"; 0 needs no unit',
  });
  if (trimmed.length > MAX_TEXT || !/^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/.test(trimmed)) throw wrong;
  let totalMs = 0;
  for (const [, amount, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    totalMs += Number(amount) * (DURATION_FACTORS_MS[unit as string] as number);
  }
  const rounded = Math.round(totalMs);
  if (!Number.isSafeInteger(rounded)) throw wrong;
  return rounded;
}

/** For people, and readable by `parseDuration`: "350ms", "1.4s", "2m5s", "1h30m", "3d4h". Two units at most. */
export function formatDuration(durationMs: number): string {
  const ms = Math.max(0, Math.round(durationMs));
  if (ms < 1000) return `${ms}ms`;
  if (ms < 59_950) return `${decimal(ms / 1000)}s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return twoUnits(seconds, 60, 'm', 1, 's');
  const minutes = Math.round(seconds / 60);
  if (minutes < 1440) return twoUnits(minutes, 60, 'h', 1, 'm');
  return twoUnits(Math.round(minutes / 60), 24, 'd', 1, 'h');
}

function twoUnits(
  amount: number,
  large: number,
  largeUnit: string,
  small: number,
  smallUnit: string,
): string {
  const rest = Math.floor((amount % large) / small);
  return `${Math.floor(amount / large)}${largeUnit}${rest === 0 ? '' : `${rest}${smallUnit}`}`;
}

function quote(text: string): string {
  return JSON.stringify(text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);
}

/** `1 file`, `2 files`; with `plural` for words that form it otherwise: `counted(1, 'file is', 'files are')`. */
export function counted(amount: number, singular: string, plural = `${singular}s`): string {
  return `${amount} ${amount === 1 ? singular : plural}`;
}
