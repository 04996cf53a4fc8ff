/**
 * `state.db.restore-plan`: there from before a restore changes anything until it is done, so that whoever comes after a
 * killed one can finish it or undo it (settle.ts).
 */

import { constants } from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { BangerError, errorText } from '../core/errors.ts';
import { fileError, syncDir, writeFileAtomic } from '../host/files.ts';
import { canonicalJson, parseCanonicalJson } from './canonical-json.ts';
import { digestOf } from '../oci/digest.ts';
import { SIDECARS } from './target-files.ts';

/**
 * How the files that were there are kept.
 * `nothing`: there was no byte to keep. `copy`: as a copy of the database, which is in its place until it is replaced.
 * `aside`: renamed, because SQLite cannot make one file of them.
 */
export type KeepMode = 'nothing' | 'copy' | 'aside';

export interface RestorePlan {
  readonly mode: KeepMode;
  /** RFC 3339, for people. */
  readonly createdAt: string;
  /** The database that comes, before and after its rename. */
  readonly newInode: bigint;
  /** The database that was there; null: none. */
  readonly oldInode: bigint | null;
  /** Name of the directory the new database was built in, beside the old one. */
  readonly temporary: string;
  /** Name of what is kept, beside the database; null in mode `nothing`. */
  readonly keptAs: string | null;
  /** What the names of the kept files have after `state.db` and after `keptAs`: '' is the database itself. */
  readonly suffixes: readonly string[];
}

const PLAN_VERSION = 1;
const MAX_PLAN_BYTES = 4096;
const KEPT_SUFFIXES: readonly string[] = ['', ...SIDECARS];

const inode = z.string().regex(/^[0-9]{1,20}$/);
const shape = z.strictObject({
  created_at: z.iso.datetime(),
  kept_as: z.string().nullable(),
  mode: z.enum(['nothing', 'copy', 'aside']),
  new_inode: inode,
  old_inode: inode.nullable(),
  plan_checksum: z.string(),
  plan_version: z.literal(PLAN_VERSION),
  suffixes: z.array(z.enum(['', ...SIDECARS])).max(KEPT_SUFFIXES.length),
  temporary: z.string(),
});

export function restorePlanPath(dbPath: string): string {
  return `${dbPath}.restore-plan`;
}

/** Durable when this returns. */
export async function writeRestorePlan(dbPath: string, plan: RestorePlan): Promise<void> {
  const fields = {
    created_at: plan.createdAt,
    kept_as: plan.keptAs,
    mode: plan.mode,
    new_inode: plan.newInode.toString(),
    old_inode: plan.oldInode?.toString() ?? null,
    plan_version: PLAN_VERSION,
    suffixes: plan.suffixes,
    temporary: plan.temporary,
  };
  const text = canonicalJson({ ...fields, plan_checksum: digestOf(canonicalJson(fields)) });
  // A plan that cannot be read back would leave the restore to nobody.
  parsePlan(Buffer.from(text), dbPath);
  await writeFileAtomic(restorePlanPath(dbPath), text);
}

export async function removeRestorePlan(dbPath: string): Promise<void> {
  const path = restorePlanPath(dbPath);
  try {
    await unlink(path);
    await syncDir(dirname(path));
  } catch (error) {
    throw fileError(`cannot remove ${path}`, error);
  }
}

/**
 * Undefined when there is none.
 * @throws {BangerError} `invalid_state`: there is something that no restore of ours wrote; `permission`, `io_error`
 */
export async function readRestorePlan(dbPath: string): Promise<RestorePlan | undefined> {
  const path = restorePlanPath(dbPath);
  const bytes = await readPlanFile(path);
  if (bytes === undefined) return undefined;
  try {
    return parsePlan(bytes, dbPath);
  } catch (cause) {
    throw new BangerError('invalid_state', `${path} is not a restore plan of ours: ${problemOf(cause)}`, {
      hint: `look at it and at what lies beside it (ls -l ${dbPath}*); without a restore under way, remove it`,
      cause,
    });
  }
}

/** At most one byte more than a plan may have. */
async function readPlanFile(path: string): Promise<Buffer | undefined> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    if (!(await file.stat()).isFile()) throw notRegular(path);
    const buffer = Buffer.alloc(MAX_PLAN_BYTES + 1);
    let length = 0;
    while (length < buffer.length) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return buffer.subarray(0, length);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') return undefined;
    if (code === 'ELOOP') throw notRegular(path);
    throw fileError(`cannot read ${path}`, error);
  }
}

function notRegular(path: string): BangerError {
  return new BangerError('permission', `refusing to use ${path}: it is not a regular file`);
}

function parsePlan(bytes: Uint8Array, dbPath: string): RestorePlan {
  if (bytes.byteLength > MAX_PLAN_BYTES) throw new Error(`larger than ${MAX_PLAN_BYTES} bytes`);
  const fields = shape.parse(parseCanonicalJson(bytes));
  const { plan_checksum: checksum, ...rest } = fields;
  if (checksum !== digestOf(canonicalJson(rest))) throw new Error('its checksum does not match its content');
  const plan: RestorePlan = {
    mode: fields.mode,
    createdAt: fields.created_at,
    newInode: BigInt(fields.new_inode),
    oldInode: fields.old_inode === null ? null : BigInt(fields.old_inode),
    temporary: fields.temporary,
    keptAs: fields.kept_as,
    suffixes: fields.suffixes,
  };
  const wrong = contradiction(plan, basename(dbPath));
  if (wrong !== undefined) throw new Error(wrong);
  return plan;
}

/** Names are put together with the directory and removed or renamed: only names a restore makes may pass. */
function contradiction(plan: RestorePlan, name: string): string | undefined {
  const { mode, temporary, keptAs, suffixes } = plan;
  const ofTemporary = `.${name}.tmp-`;
  if (
    !temporary.startsWith(ofTemporary) ||
    !/^\d+-\d+-[0-9a-f]{12}$/.test(temporary.slice(ofTemporary.length))
  )
    return 'the temporary name is none of ours';
  const ofKept = `${name}.pre-restore-`;
  const tail = keptAs?.startsWith(ofKept) ? keptAs.slice(ofKept.length) : '';
  if (keptAs !== null && !/^\d{8}T\d{6}Z(-\d{1,3})?$/.test(tail)) return 'the kept name is none of ours';
  if (new Set(suffixes).size !== suffixes.length) return 'a file is named twice';
  const expected = {
    nothing: suffixes.length === 0,
    copy: suffixes.join() === '',
    aside: suffixes.length > 0,
  };
  if (!expected[mode] || (mode === 'copy' && (suffixes.length !== 1 || plan.oldInode === null)))
    return `the kept files do not fit mode ${mode}`;
  if ((keptAs === null) !== (mode === 'nothing')) return 'the kept name does not fit the mode';
  return undefined;
}

/** Where the files the plan keeps come from and go to. */
export function keptFiles(
  dbPath: string,
  plan: RestorePlan,
): readonly { readonly from: string; readonly to: string }[] {
  const { keptAs } = plan;
  if (keptAs === null) return [];
  const kept = join(dirname(dbPath), keptAs);
  return plan.suffixes.map((suffix) => ({ from: dbPath + suffix, to: kept + suffix }));
}

function problemOf(error: unknown): string {
  if (!(error instanceof z.ZodError)) return errorText(error);
  const issue = error.issues[0];
  return issue === undefined ? 'wrong fields' : `${issue.path.join('.')}: ${issue.message}`;
}
