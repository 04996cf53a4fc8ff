/** Rows of `vms` to records and back. What lies in the columns is hostile until checked. */

import { isIPv4 } from 'node:net';
import { z } from 'zod';
import { BangerError, errorText } from '../core/errors.ts';
import {
  ACCELERATORS,
  DRIVER_NAMES,
  GUEST_INITS,
  STARTED_FROM,
  VM_STATES,
  type VmRecord,
  type VmRuntime,
  type VmSpec,
  type VmState,
  type VmStats,
} from '../core/model/vm.ts';
import { type VmWorkspace, WORKSPACE_MODES } from '../core/model/workspace.ts';
import { MAX_FORWARDED_PORTS, MAX_PUBLISHED_PORTS } from '../core/published-port.ts';
import { assertVmName, isId, MAX_NAME_LENGTH } from '../core/names.ts';
import { MAX_TOOLS } from '../core/toolingplan/model.ts';
import type { Row } from './sql.ts';

/** A column beyond this was not written by us. */
const MAX_JSON_LENGTH = 1024 * 1024;

const shortText = z.string().max(256);
const pathText = z.string().max(4096);
const count = z.number().nonnegative();
// Made once: making a schema costs a hundred times what checking with it does.
const anyText = z.string();
const jsonText = z.string().max(MAX_JSON_LENGTH);
const stateSchema = z.enum(VM_STATES);

const publishedShape = {
  hostAddress: z.string().max(64),
  hostPort: z.int().min(0).max(65535),
  guestPort: z.int().min(1).max(65535),
};
const publishedSchema = z.object(publishedShape);
const boundSchema = z.object({ ...publishedShape, problem: z.string().max(1024).exactOptional() });

const forwardedSchema = z.object({
  port: z.int().min(1).max(65535),
  address: z.string().max(64).exactOptional(),
  problem: z.string().max(1024).exactOptional(),
});

/** Every field of the model has its check: a forgotten one would be stripped from each row read. */
type Shape<T> = { readonly [K in keyof Required<T>]: z.ZodType };

/** Fields added after a row was written get the value that keeps its behaviour. */
const specShape = {
  imageName: shortText,
  vcpus: z.int().positive(),
  memoryMib: z.int().positive(),
  diskSizeBytes: z.int().positive(),
  nat: z.boolean().default(false),
  init: z.enum(GUEST_INITS).default('agent'),
  accel: z.enum([...ACCELERATORS, 'auto']).default('auto'),
  driver: z.enum(DRIVER_NAMES).default('qemu'),
  ephemeral: z.boolean().default(false),
  publish: z.array(publishedSchema).max(MAX_PUBLISHED_PORTS).default([]),
} satisfies Shape<VmSpec>;
/** A spec as rows and vm.json files have it. */
export const specSchema: z.ZodType<VmSpec> = z.object(specShape);

const runtimeShape = {
  pending: z.enum(['create', 'delete']).exactOptional(),
  accelerator: z.enum(ACCELERATORS).exactOptional(),
  machine: shortText.exactOptional(),
  bootId: shortText.exactOptional(),
  startedAt: shortText.exactOptional(),
  startedFrom: z.enum(STARTED_FROM).exactOptional(),
  stoppedAt: shortText.exactOptional(),
  heldBy: z.enum(['user', 'idle']).exactOptional(),
  woken: z.object({ at: shortText, by: shortText, durationMs: count }).exactOptional(),
  lastError: z.string().exactOptional(),
  published: z.array(boundSchema).max(MAX_PUBLISHED_PORTS).exactOptional(),
  forwarded: z.array(forwardedSchema).max(MAX_FORWARDED_PORTS).exactOptional(),
} satisfies Shape<VmRuntime>;
const runtimeSchema: z.ZodType<VmRuntime> = z.object(runtimeShape);

const statsShape = {
  sampledAt: shortText.exactOptional(),
  cpuMs: count.exactOptional(),
  rssBytes: count.exactOptional(),
  diskBytes: count.exactOptional(),
} satisfies Shape<VmStats>;
const statsSchema: z.ZodType<VmStats> = z.object(statsShape);

const objectId = z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/);

const shippedSchema = z.object({
  commit: objectId,
  tree: objectId,
  branch: shortText.nullable(),
  staged: z.string().regex(/^[0-9a-f]{64}$/),
});
/** Of all submodules of a repository together. */
const MAX_SUBMODULES = 10_000;

/** The fields with a default are absent in rows of earlier versions. */
const workspaceShape = {
  guestPath: pathText,
  sourcePath: pathText.nullable(),
  headCommit: objectId,
  mode: z.enum(WORKSPACE_MODES).default('shallow_overlay'),
  readOnly: z.boolean().default(false),
  branch: shortText.nullable().default(null),
  from: shortText.nullable().default(null),
  includeUntracked: z.boolean().default(false),
  shipped: shippedSchema.nullable().default(null),
  submodules: z
    .array(z.object({ path: pathText, gitDir: pathText, headCommit: objectId, shipped: shippedSchema }))
    .max(MAX_SUBMODULES)
    .default([]),
  preparedAt: shortText,
  unplaced: z.literal(true).exactOptional(),
  tools: z
    .object({
      required: z.boolean(),
      trust: z.array(shortText).max(MAX_TOOLS),
      extra: z.array(shortText).max(MAX_TOOLS),
      asked: z.array(shortText).max(MAX_TOOLS).exactOptional(),
      mise: pathText.exactOptional(),
    })
    .nullable()
    .default(null),
} satisfies Record<keyof VmWorkspace, z.ZodType>;
/** A workspace as rows and vm.json files have it. */
export const workspaceSchema: z.ZodType<VmWorkspace> = z.object(workspaceShape);

/**
 * Stands in for a spec that cannot be read. Compared by identity: see assertReadable. Its zeros start nothing.
 */
const UNREADABLE_SPEC: VmSpec = Object.freeze({
  imageName: '',
  vcpus: 0,
  memoryMib: 0,
  diskSizeBytes: 0,
  nat: false,
  init: 'agent',
  accel: 'auto',
  driver: 'qemu',
  ephemeral: false,
  publish: [],
});

/**
 * To be called before anything relies on the spec of a VM from the store.
 * @throws {BangerError} `io_error`: its row is damaged; deleting it is what is left
 */
export function assertReadable(vm: VmRecord): void {
  if (vm.spec !== UNREADABLE_SPEC) return;
  throw new BangerError('io_error', vm.runtime.lastError ?? `the row of VM ${vm.id} is damaged`, {
    hint: `banger vm delete ${vm.id}`,
  });
}

/**
 * Total: a damaged row is a VM in state `error` whose lastError names the row and the column, so that it is listed
 * and can be deleted, and no other VM suffers for it.
 */
export function toVmRecord(row: Row): VmRecord {
  const problems: string[] = [];
  const attempt = <T>(column: string, fallback: T, read: (value: unknown) => T): T => {
    try {
      return read(row[column]);
    } catch (error) {
      problems.push(`${column}: ${describe(error)}`);
      return fallback;
    }
  };
  const id = attempt('id', notAPath(printable(row['id'], 64)), readId);
  const name = attempt('name', printable(row['name'], MAX_NAME_LENGTH), readName);
  const guestIp = attempt('guest_ip', '', readAddress);
  const state = attempt<VmState>('state', 'error', (value) => stateSchema.parse(value));
  const spec = attempt('spec_json', UNREADABLE_SPEC, (value) => readJson(specSchema, value));
  const runtime = attempt<VmRuntime>('runtime_json', {}, (value) => readJson(runtimeSchema, value));
  const stats = attempt<VmStats>('stats_json', {}, (value) => readJson(statsSchema, value));
  const workspace = attempt('workspace_json', null, readWorkspace);
  const record: VmRecord = {
    id,
    name,
    imageId: printable(row['image_id'], 64),
    guestIp,
    state,
    spec,
    runtime,
    stats,
    workspace,
    createdAt: printable(row['created_at'], 64),
    updatedAt: printable(row['updated_at'], 64),
    lastTouchedAt: printable(row['last_touched_at'], 64),
  };
  if (problems.length === 0) return record;
  const lastError = `the row of VM "${name}" (${id}) in the state database is damaged: ${problems.join('; ')}`;
  return {
    ...record,
    state: 'error',
    spec: identityBroken(problems) ? UNREADABLE_SPEC : spec,
    runtime: { ...runtime, lastError },
  };
}

/** Without a sound id, name or address nothing may be started either, whatever its spec says. */
function identityBroken(problems: readonly string[]): boolean {
  return problems.some((problem) => /^(?:id|name|guest_ip): /.test(problem));
}

/** The columns of a spec, runtime or sample as text. What could not be read back is refused: a programmer error. */
export function specText(spec: VmSpec): string {
  return JSON.stringify(specSchema.parse(spec));
}

export function runtimeText(runtime: VmRuntime): string {
  return JSON.stringify(runtimeSchema.parse(runtime));
}

export function statsText(stats: VmStats): string {
  return JSON.stringify(statsSchema.parse(stats));
}

/** `{}` means: no workspace. */
export function workspaceText(workspace: VmWorkspace | null): string {
  return workspace === null ? '{}' : JSON.stringify(workspaceSchema.parse(workspace));
}

/** Whether the stored spec is one that a write may replace. */
export function isReadableSpec(value: unknown): boolean {
  try {
    readJson(specSchema, value);
    return true;
  } catch {
    return false;
  }
}

function readId(value: unknown): string {
  const id = anyText.parse(value);
  if (!isId(id)) throw new Error('not 32 hex digits');
  return id;
}

function readName(value: unknown): string {
  const name = anyText.parse(value);
  assertVmName(name);
  return name;
}

function readAddress(value: unknown): string {
  const address = anyText.parse(value);
  if (!isIPv4(address)) throw new Error('not an IPv4 address');
  return address;
}

/** NULL, an empty text and `{}` mean: no workspace. */
function readWorkspace(value: unknown): VmWorkspace | null {
  if (value === null || value === '' || value === '{}') return null;
  return readJson(workspaceSchema, value);
}

function readJson<T>(schema: z.ZodType<T>, value: unknown): T {
  return schema.parse(JSON.parse(jsonText.parse(value)));
}

function describe(error: unknown): string {
  if (!(error instanceof z.ZodError)) return errorText(error);
  return error.issues
    .slice(0, 3)
    .map((issue) => `${issue.path.length === 0 ? '' : `${issue.path.join('.')}: `}${issue.message}`)
    .join(', ');
}

/** An id names a directory. */
function notAPath(text: string): string {
  return text.replace(/[./]/g, '?');
}

/** Text from a damaged row goes to terminals: nothing but printable ASCII, and not much of it. */
function printable(value: unknown, maxLength: number): string {
  const text = value === null || value === undefined ? '' : String(value);
  return text.slice(0, maxLength).replace(/[^\x20-\x7e]/g, '?');
}
