/** What a frozen machine depends on, as data: found by it, and refused with the names of what differs. Pure. */

import { createHash } from 'node:crypto';

/** Names a person understands → what was the case. Plain JSON; the driver decides what is in it. */
export type MachineShape = Readonly<Record<string, string>>;

const MAX_VALUE_LENGTH = 120;

/** Hex SHA-256 that is the same for equal shapes and no others, whatever the order of their entries. */
export function shapeKey(shape: MachineShape): string {
  const entries = Object.entries(shape).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(entries)).digest('hex');
}

/** What a machine of shape `now` has otherwise than one of shape `then`, each as words for a message. */
export function shapeDifferences(then: MachineShape, now: MachineShape): readonly string[] {
  const names = [...new Set([...Object.keys(then), ...Object.keys(now)])].sort();
  return names
    .filter((name) => valueOf(then, name) !== valueOf(now, name))
    .map((name) => `${name}: ${words(valueOf(now, name))}, not ${words(valueOf(then, name))}`);
}

function valueOf(shape: MachineShape, name: string): string | undefined {
  return Object.hasOwn(shape, name) ? shape[name] : undefined;
}

function words(value: string | undefined): string {
  if (value === undefined) return 'nothing';
  return value.length <= MAX_VALUE_LENGTH ? value : `${value.slice(0, MAX_VALUE_LENGTH)}…`;
}
