/** Flags as commands declare them: each knows the type of its value, its place in the help, and how stricli parses it. */

import { BangerError } from '../core/errors.ts';
import { parseSize } from '../core/units.ts';
import type { CliContext } from './cli-context.ts';

export type Letter = string;
export type Completer = (context: CliContext, partial: string) => Promise<readonly string[]>;

export interface FlagSpec<V> {
  readonly kind: 'toggle' | 'value' | 'list' | 'choice';
  readonly brief: string;
  readonly letter?: Letter;
  /** Name of the value in the help, upper case. */
  readonly placeholder?: string;
  readonly choices?: readonly string[];
  readonly complete?: Completer;
  readonly parse?: (text: string) => unknown;
  /** Carries the type only; never set. */
  readonly value?: V;
}

export type FlagSpecs = Readonly<Record<string, FlagSpec<unknown>>>;
export type FlagValues<F extends FlagSpecs> = {
  readonly [K in keyof F]: F[K] extends FlagSpec<infer V> ? V : never;
};

interface Extra {
  readonly letter?: Letter;
  readonly complete?: Completer;
}

/** Present or not. */
export function toggle(brief: string, extra: Extra = {}): FlagSpec<boolean> {
  return { kind: 'toggle', brief, ...extra };
}

export function text(placeholder: string, brief: string, extra: Extra = {}): FlagSpec<string | undefined> {
  return { kind: 'value', brief, placeholder, parse: (value) => value, ...extra };
}

/** May be given several times. */
export function texts(placeholder: string, brief: string, extra: Extra = {}): FlagSpec<readonly string[]> {
  return { kind: 'list', brief, placeholder, parse: (value) => value, ...extra };
}

/** As `texts`, each of them parsed. */
export function list<T>(
  placeholder: string,
  brief: string,
  parse: (value: string) => T,
  extra: Extra = {},
): FlagSpec<readonly T[]> {
  return { kind: 'list', brief, placeholder, parse, ...extra };
}

export function choice<const T extends string>(
  choices: readonly T[],
  brief: string,
  extra: Extra = {},
): FlagSpec<T | undefined> {
  return { kind: 'choice', brief, choices, placeholder: choices.join('|'), ...extra };
}

/** A whole number of at least `minimum`. */
export function count(
  placeholder: string,
  brief: string,
  minimum: number,
  extra: Extra = {},
): FlagSpec<number | undefined> {
  return { kind: 'value', brief, placeholder, parse: (value) => parseCount(value, minimum), ...extra };
}

/** Bytes, written as `512MiB`, `4G` or a bare number of MiB. */
export function size(placeholder: string, brief: string, extra: Extra = {}): FlagSpec<number | undefined> {
  return { kind: 'value', brief, placeholder, parse: parseAmount, ...extra };
}

function parseCount(value: string, minimum: number): number {
  if (!/^[+-]?\d{1,15}$/.test(value)) throw new BangerError('usage', `"${value}" is not a whole number`);
  const number = Number(value);
  if (number < minimum) throw new BangerError('usage', `${value} is too small: at least ${minimum}`);
  return number;
}

function parseAmount(value: string): number {
  if (/^\s*-/.test(value)) throw new BangerError('usage', `${value} is negative: a size is above zero`);
  const bytes = parseSize(value);
  if (bytes <= 0) throw new BangerError('usage', 'a size is above zero');
  return bytes;
}

export const jsonFlag = toggle('Print JSON on stdout, and errors as JSON on stderr');
