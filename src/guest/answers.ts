/** What the guest says in JSON: checked, sized and cleaned before anything uses it. */

import { z } from 'zod';
import { printable } from '../core/channel/close.ts';
import { BangerError } from '../core/errors.ts';

export const MAX_HELLO_BYTES = 16 * 1024;
export const MAX_HEALTH_BYTES = 64 * 1024;
export const MAX_PORTS_BYTES = 2 * 1024 * 1024;
const MAX_PORTS = 4096;

function text(maxLength: number) {
  return z.string().max(maxLength).transform(printable);
}

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

const helloSchema = z.object({
  /** The agent's version. */
  agent: text(128),
  /** /proc/sys/kernel/random/boot_id of the guest; zeros until it has been configured. */
  bootId: z.string().regex(/^[0-9a-f-]{1,64}$/),
  configured: z.boolean(),
  /** `uname -r`. */
  kernel: text(256),
  /** The root disk is mounted. */
  mounted: z.boolean(),
  /** Why the guest could not finish its boot. */
  error: text(4096).nullable(),
  /** The wall clock when this was said, ms since 1970. Undefined: an older agent, in a machine that was kept. */
  clockMs: count.optional(),
});
export type GuestHello = z.output<typeof helloSchema>;

const healthSchema = z.object({
  uptimeMs: count,
  bootId: z.string().regex(/^[0-9a-f-]{1,64}$/),
  memoryTotalKib: count,
  memoryAvailableKib: count,
  load1: z.number().min(0),
  processes: count,
  diskTotalBytes: count,
  diskFreeBytes: count,
  init: text(32),
  configured: z.boolean(),
  /** Nothing runs in it and nothing is under way: it may be frozen. Agents that do not say so count as busy. */
  idle: z.boolean().default(false),
  /** Programs in it that ask not to be put to sleep: docs/idle.md. */
  leases: count.default(0),
});
export type GuestHealth = z.output<typeof healthSchema>;

const portsSchema = z
  .array(
    z.object({
      protocol: z.enum(['tcp', 'udp']),
      address: z.string().regex(/^[0-9a-fA-F.:%]{1,64}$/),
      port: z.number().int().min(0).max(65535),
      pid: count.nullable(),
      process: text(256).nullable(),
    }),
  )
  .max(MAX_PORTS);
export type GuestPort = z.output<typeof portsSchema>[number];

/** @throws {BangerError} `guest_failed` */
export function parseHello(bytes: Uint8Array): GuestHello {
  if (bytes.length > MAX_HELLO_BYTES) throw nonsense('hello', 'it is too long');
  return parseAnswer(helloSchema, bytes, 'hello');
}

/** @throws {BangerError} `guest_failed` */
export function parseHealth(bytes: Uint8Array): GuestHealth {
  return parseAnswer(healthSchema, bytes, 'health');
}

/** @throws {BangerError} `guest_failed` */
export function parsePorts(bytes: Uint8Array): readonly GuestPort[] {
  return parseAnswer(portsSchema, bytes, 'ports');
}

function parseAnswer<T>(schema: z.ZodType<T>, bytes: Uint8Array, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8'));
  } catch (cause) {
    throw nonsense(what, 'it is not JSON', cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw nonsense(what, `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`, parsed.error);
}

function nonsense(what: string, why: string, cause?: unknown): BangerError {
  return new BangerError('guest_failed', `the guest's answer (${what}) makes no sense: ${why}`, { cause });
}
