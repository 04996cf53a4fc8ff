/** Checks of the local collection of state snapshots. */

import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { errorText } from '../../core/errors.ts';
import type { SnapshotManifest } from '../../core/model/snapshot.ts';
import { formatDuration } from '../../core/units.ts';
import { listDir } from '../../host/files.ts';
import { decodeManifest, MAX_MANIFEST_BYTES, MAX_PAYLOAD_BYTES } from '../../state/manifest.ts';
import { verify } from '../../state/verify.ts';
import { MIGRATIONS } from '../../store/migrations/list.ts';
import { type Check, failure, info, ok, type Outcome, orOk } from './check.ts';
import type { DoctorContext } from './context.ts';
import { factsOf } from './host-facts.ts';

const MANIFEST_NAME = /^([0-9a-f]{64})\.manifest\.json$/;
const PAYLOAD_NAME = /^[0-9a-f]{64}$/;
const REF_MAX_BYTES = 256;

interface Found {
  readonly payloadPath: string;
  readonly manifestPath: string;
  readonly hex: string;
}

/** Pairs of payload and manifest, one of which may be missing. */
async function collection({ paths }: DoctorContext): Promise<readonly Found[]> {
  const dir = join(paths.snapshotsDir, 'sha256');
  const hexes = (await listDir(dir)).map((name) => MANIFEST_NAME.exec(name)?.[1] ?? name);
  return [...new Set(hexes.filter((hex) => PAYLOAD_NAME.test(hex)))].map((hex) => ({
    hex,
    payloadPath: join(dir, hex),
    manifestPath: join(dir, `${hex}.manifest.json`),
  }));
}

/** A regular file of at most that size, whole. */
async function readBounded(path: string, maxBytes: number): Promise<Buffer> {
  const facts = factsOf(path);
  if (facts === undefined) throw new Error(`${path} is missing`);
  if (facts.kind !== 'file') throw new Error(`${path} is not a regular file`);
  if (facts.sizeBytes > maxBytes) throw new Error(`${path} is larger than ${maxBytes} bytes`);
  return await readFile(path);
}

const FIX =
  'banger state prune removes what is old; remove both files of it by hand, and export anew: banger state export';

/** All that can be told without reading payloads. */
async function manifestOf(found: Found): Promise<SnapshotManifest> {
  const manifest = decodeManifest(await readBounded(found.manifestPath, MAX_MANIFEST_BYTES));
  if (manifest.checksum !== `sha256:${found.hex}`) {
    throw new Error(`its manifest is of another snapshot: ${manifest.checksum}`);
  }
  const size = factsOf(found.payloadPath)?.sizeBytes;
  if (size === undefined) throw new Error(`${found.payloadPath} is missing`);
  if (size !== manifest.encoded_bytes) {
    throw new Error(`${found.payloadPath} has ${size} bytes, not ${manifest.encoded_bytes}`);
  }
  return manifest;
}

const OLD_MS = 30 * 24 * 60 * 60_000;

const snapshots: Check<DoctorContext> = {
  id: 'state.snapshots',
  group: 'state',
  title: 'snapshots',
  timeoutMs: 15_000,
  run: async (context) => {
    const all = await collection(context);
    const problems: Outcome[] = [];
    const times: number[] = [];
    for (const found of all) {
      try {
        times.push(Date.parse((await manifestOf(found)).created_at));
      } catch (error) {
        problems.push(
          failure(`snapshot sha256:${found.hex.slice(0, 12)}: ${errorText(error)}`, { fix: FIX }),
        );
      }
    }
    problems.push(...(await lostRefs(context, all)));
    return [ageOutcome(times, context), ...problems];
  },
};

function ageOutcome(times: readonly number[], { stateFile, host }: DoctorContext): Outcome {
  if (times.length === 0) {
    if (factsOf(stateFile) === undefined) return ok('none, and no database yet');
    return info('there is none: what is lost with the database is lost', { fix: 'banger state export' });
  }
  const age = Math.max(0, host.now() - Math.max(...times));
  const found = `${times.length}, the newest ${formatDuration(age)} old`;
  return age <= OLD_MS ? ok(found) : info(found, { fix: 'banger state export' });
}

/** A ref is a file with a digest in it: `snapshots/refs/latest`. */
async function lostRefs({ paths }: DoctorContext, all: readonly Found[]): Promise<readonly Outcome[]> {
  const dir = join(paths.snapshotsDir, 'refs');
  const outcomes: Outcome[] = [];
  for (const name of (await listDir(dir)).filter((one) => !one.startsWith('.'))) {
    const path = join(dir, name);
    const text = await readBounded(path, REF_MAX_BYTES).then(
      (bytes) => bytes.toString('utf8').trim(),
      () => '',
    );
    const hex = /^(?:sha256:)?([0-9a-f]{64})$/.exec(text)?.[1];
    if (all.some((found) => found.hex === hex)) continue;
    outcomes.push(
      info(`${basename(path)} in ${dir} leads to no snapshot that is here`, { fix: `rm ${path}` }),
    );
  }
  return outcomes;
}

const digests: Check<DoctorContext> = {
  id: 'state.snapshot-digests',
  group: 'state',
  title: 'digests of snapshots',
  timeoutMs: 10 * 60_000,
  deep: true,
  alone: true,
  run: async (context, signal) => {
    const all = await collection(context);
    const problems: Outcome[] = [];
    for (const [done, found] of all.entries()) {
      signal.throwIfAborted();
      const text = `reading ${found.payloadPath}`;
      context.progress({ step: 'state.snapshot-digests', text, done, total: all.length, unit: 'items' });
      try {
        const payload = await readBounded(found.payloadPath, MAX_PAYLOAD_BYTES);
        const manifest = await readBounded(found.manifestPath, MAX_MANIFEST_BYTES);
        verify(payload, manifest, { migrations: MIGRATIONS, digest: `sha256:${found.hex}` });
      } catch (error) {
        problems.push(
          failure(`snapshot sha256:${found.hex.slice(0, 12)}: ${errorText(error)}`, { fix: FIX }),
        );
      }
    }
    return orOk(problems, all.length === 0 ? 'nothing to read' : `${all.length} are as they were made`);
  },
};

export const SNAPSHOT_CHECKS: readonly Check<DoctorContext>[] = [snapshots, digests];
