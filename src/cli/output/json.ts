import type { TextOutput } from '../cli-context.ts';

/** One JSON value, indented by two, with a line feed. */
export function printJson(output: TextOutput, value: unknown): void {
  output.write(`${JSON.stringify(value, null, 2)}\n`);
}
