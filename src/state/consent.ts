/** Whether what is there may be replaced, and what to say when it may not. */

import type { SnapshotManifest } from '../core/model/snapshot.ts';
import { counted } from '../core/units.ts';
import { ErrNotFresh } from './errors.ts';
import type { DatabaseFacts, Previous } from './inspect-previous.ts';

export interface Consent {
  readonly force: boolean;
  /** `FROM:TO`: a migration or control version that may go back from what is there to what comes. */
  readonly allowRollback: readonly string[];
  /** What the user calls the snapshot, for the command in the hint. */
  readonly source: string;
}

interface Rollback {
  readonly what: string;
  readonly from: bigint;
  readonly to: bigint;
}

/**
 * A database SQLite cannot read has no versions to compare: force alone replaces it.
 * @throws {ErrNotFresh} naming what is there, both numbers where one would go back, and the command that consents
 */
export function assertConsent(
  dbPath: string,
  previous: Previous,
  manifest: SnapshotManifest,
  consent: Consent,
): void {
  if (previous.kind === 'none') return;
  const rollbacks = previous.kind === 'readable' ? rollbacksTo(manifest, previous.facts) : [];
  const missing = rollbacks.filter(({ from, to }) => !consent.allowRollback.includes(`${from}:${to}`));
  if (consent.force && missing.length === 0) return;
  const flags = rollbacks.map(({ from, to }) => ` --allow-rollback ${from}:${to}`);
  const command = `banger state bootstrap ${shellWord(consent.source)} --force${[...new Set(flags)].join('')}`;
  const back = missing.map(({ what, from, to }) => `its ${what} version would go back from ${from} to ${to}`);
  const message = `${dbPath} ${describe(previous)}${back.length === 0 ? '' : `, and ${back.join(' and ')}`}`;
  throw new ErrNotFresh(message, { hint: `to replace it, and keep it beside the new one: ${command}` });
}

function rollbacksTo(manifest: SnapshotManifest, facts: DatabaseFacts): readonly Rollback[] {
  const all: readonly Rollback[] = [
    {
      what: 'migration',
      from: BigInt(facts.migrationVersion),
      to: BigInt(manifest.db_migration_version),
    },
    { what: 'control', from: facts.controlVersion, to: manifest.control_version },
  ];
  return all.filter(({ from, to }) => to < from);
}

function describe(previous: Exclude<Previous, { kind: 'none' }>): string {
  if (previous.kind === 'damaged') return `cannot be read (${previous.problem})`;
  const { vms, images, migrationVersion, controlVersion } = previous.facts;
  const rows = `${counted(vms, 'VM')} and ${counted(images, 'image')}`;
  return `holds ${rows} (migration version ${migrationVersion}, control version ${controlVersion})`;
}

function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
