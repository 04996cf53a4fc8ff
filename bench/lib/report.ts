/** Prints a benchmark's rows: what was measured, its figures, and the bar it is held against. */

import type { Summary } from './stats.ts';

export interface Bar {
  /** What the figure must be, in words. */
  readonly rule: string;
  readonly holds: boolean;
}

const bars: Bar[] = [];

export function heading(text: string): void {
  console.log(`\n${text}`);
}

export function row(name: string, summary: Summary, unit = 'ms'): void {
  const figures = [summary.min, summary.p50, summary.p95, summary.max].map((value) =>
    value.toFixed(1).padStart(9),
  );
  console.log(`  ${name.padEnd(52)} ${figures.join(' ')} ${unit}   n=${summary.runs}`);
}

export function columns(): void {
  console.log(`  ${''.padEnd(52)} ${['min', 'p50', 'p95', 'max'].map((name) => name.padStart(9)).join(' ')}`);
}

export function figure(name: string, value: string): void {
  console.log(`  ${name.padEnd(52)} ${value}`);
}

export function bar(rule: string, holds: boolean): void {
  bars.push({ rule, holds });
  console.log(`  ${holds ? 'met   ' : 'NOT MET'} ${rule}`);
}

/** Whether every bar was met. */
export function summaryOfBars(): boolean {
  const missed = bars.filter(({ holds }) => !holds);
  console.log(`\n${bars.length - missed.length} of ${bars.length} bars met`);
  for (const { rule } of missed) console.log(`  not met: ${rule}`);
  return missed.length === 0;
}
