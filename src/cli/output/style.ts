/** Colour: on a terminal only, and never with NO_COLOR set (https://no-color.org) or on a dumb one. */

import type { TextOutput } from '../cli-context.ts';

export interface Style {
  readonly dim: (text: string) => string;
  readonly red: (text: string) => string;
  readonly yellow: (text: string) => string;
  readonly green: (text: string) => string;
  readonly bold: (text: string) => string;
}

export function styleFor(output: TextOutput, env: Readonly<Record<string, string | undefined>>): Style {
  const on = output.isTTY && !env['NO_COLOR'] && env['TERM'] !== 'dumb';
  const paint = (open: number, close: number) => (text: string) =>
    on ? `\u001b[${open}m${text}\u001b[${close}m` : text;
  return {
    dim: paint(2, 22),
    red: paint(31, 39),
    yellow: paint(33, 39),
    green: paint(32, 39),
    bold: paint(1, 22),
  };
}
