/** What a value in config.toml may be: each checks and reads it, and says the same as JSON Schema as far as that can. */

import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import { assertImageName } from '../core/names.ts';
import { MIB, parseDuration, parseSize } from '../core/units.ts';
import { parseLoopbackEnd } from './loopback-end.ts';

const SIZE_PATTERN = String.raw`^\s*\d+(\.\d+)?\s*([Bb]|[KkMmGgTt]([Ii][Bb])?)?\s*$`;
const SOME_SIZE_PATTERN = SIZE_PATTERN.replace('^', '^(?=[^1-9]*[1-9])');
const DURATION_PATTERN = String.raw`^\s*(0|(\d+(\.\d+)?(ms|s|m|h|d))+)\s*$`;
const IMAGE_NAME_PATTERN = String.raw`^(?!.*\.\.)[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`;

/** A BangerError of a parser of ours becomes an issue of zod's at the same place. */
function readWith<In, Out>(schema: z.ZodType<In>, read: (value: In) => Out) {
  return schema.transform((value, context): Out => {
    try {
      return read(value);
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      context.addIssue({ code: 'custom', message: error.message, params: { hint: error.hint } });
      return z.NEVER;
    }
  });
}

const sizeText = (pattern: string) => z.string({ error: 'must be a text like "8GiB"' }).meta({ pattern });

/** Bytes. */
export const size = readWith(sizeText(SOME_SIZE_PATTERN), (text) => parseSize(text)).refine(
  (bytes) => bytes > 0,
  {
    error: 'must be larger than 0',
  },
);

/** Bytes; 0 means none. */
export const sizeOrNone = readWith(
  z.union([sizeText(SIZE_PATTERN), z.literal(0)], { error: 'must be a text like "8GiB", or 0' }),
  (value) => (value === 0 ? 0 : parseSize(value)),
);

/** MiB, written as a size. */
export const memorySize = size
  .refine((bytes) => bytes % MIB === 0, { error: 'must be a whole number of MiB' })
  .transform((bytes) => bytes / MIB);

/** Milliseconds. */
export const duration = readWith(
  z.union([z.string().meta({ pattern: DURATION_PATTERN }), z.literal(0)], {
    error: 'must be a text like "10s" or "1h30m", or 0',
  }),
  (value) => (value === 0 ? 0 : parseDuration(value)),
);

/** As `duration`, not shorter than `minimum`, which is written as one. */
export function durationFrom(minimum: string, options: { readonly orNever?: true } = {}) {
  const minMs = parseDuration(minimum);
  return duration.refine((ms) => ms >= minMs || (options.orNever === true && ms === 0), {
    error: `must be at least ${minimum}${options.orNever === true ? ', or 0' : ''}`,
  });
}

export const whole = z.int({ error: 'must be a whole number' }).min(1, { error: 'must be at least 1' });

export const yesOrNo = z.boolean({ error: 'must be true or false' });

/** As it is written: `~/` is not expanded yet. */
export const filePath = z
  .string({ error: 'must be a path' })
  .regex(/^(?:\/|~\/)[^\0]+$/, { error: 'must be an absolute path, or one below "~/"' });

export const imageName = readWith(
  z.string({ error: 'must be the name of an image' }).meta({ pattern: IMAGE_NAME_PATTERN }),
  (name) => {
    assertImageName(name);
    return name;
  },
);

const LOOPBACK_END_PATTERN = String.raw`^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]):\d{1,5}$`;

/** Where something listens that only this host may reach. */
export const loopbackEnd = readWith(
  z.string({ error: 'must be a text like "127.0.0.1:42069"' }).meta({ pattern: LOOPBACK_END_PATTERN }),
  parseLoopbackEnd,
);

export function oneOf<const T extends readonly [string, ...string[]]>(values: T) {
  return z.enum(values, { error: `must be one of ${values.map((value) => `"${value}"`).join(', ')}` });
}
