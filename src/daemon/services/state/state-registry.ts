/** Snapshots to and from OCI registries. */

import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { StatePushed } from '../../../api/results/state.ts';
import { BangerError } from '../../../core/errors.ts';
import { createRunner } from '../../../host/runner.ts';
import { dockerCredentials } from '../../../oci/credentials.ts';
import { parseDigest } from '../../../oci/digest.ts';
import { parseRepository, parseTag } from '../../../oci/reference.ts';
import { RegistryClient } from '../../../oci/registry.ts';
import {
  type OnTransfer,
  type PulledSnapshot,
  pullSnapshot,
  pushSnapshot,
} from '../../../state/distribution.ts';
import type { FoundSnapshot } from '../../../state/snapshot-collection.ts';
import { verify } from '../../../state/verify.ts';
import type { Migration } from '../../../store/migrations/migration.ts';
import type { OperationHandle } from '../../operations.ts';

export interface RegistrySettings {
  readonly migrations: readonly Migration[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** @throws {ErrVerify} before anything is sent @throws {BangerError} as RegistryClient */
export async function pushToRegistry(
  found: FoundSnapshot,
  params: CheckedParamsOf<'state.push'>,
  { migrations, env }: RegistrySettings,
  operation: OperationHandle,
): Promise<StatePushed> {
  const { repository } = params;
  const tag = params.tag === undefined ? undefined : parseTag(params.tag);
  const { digest } = found;
  // That it is the one that was asked for is known here; that it is sound, pushSnapshot sees for itself.
  if (digest !== undefined) verify(found.data, found.manifestBytes, { migrations, digest });
  const client = openRegistry(repository, 'push', env, operation);
  operation.about(repository);
  const pushed = await pushSnapshot(client, found, {
    migrations,
    onTransfer: tell(operation, 'push', `pushing to ${repository}`),
    ...(tag !== undefined && { tag }),
  });
  return { repository, ...pushed, tag: tag ?? null };
}

/** Fetched and verified, not kept. @throws {ErrVerify} @throws {BangerError} `usage`, as RegistryClient */
export async function pullFromRegistry(
  params: CheckedParamsOf<'state.pull'>,
  { migrations, env }: RegistrySettings,
  operation: OperationHandle,
): Promise<PulledSnapshot> {
  const { repository } = params;
  const version = versionOf(params);
  const client = openRegistry(repository, 'pull', env, operation);
  operation.about(repository);
  const onTransfer = tell(operation, 'pull', `pulling from ${repository}`);
  return await pullSnapshot(client, version, { migrations, onTransfer });
}

function versionOf({ digest, tag }: CheckedParamsOf<'state.pull'>): string {
  if (digest !== undefined && tag === undefined) return parseDigest(digest);
  if (tag !== undefined && digest === undefined) return parseTag(tag);
  throw new BangerError('usage', 'a pull needs a digest or a tag, and not both');
}

function openRegistry(
  repository: string,
  access: 'push' | 'pull',
  env: RegistrySettings['env'],
  { signal }: OperationHandle,
): RegistryClient {
  const credentials = dockerCredentials(env, createRunner());
  return new RegistryClient({ repository: parseRepository(repository), access, credentials, env, signal });
}

function tell({ progress }: OperationHandle, step: string, text: string): OnTransfer {
  progress({ step, text });
  return (done, total) => progress({ step, text, done, total, unit: 'bytes' });
}
