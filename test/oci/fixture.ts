/** Clients, snapshots and collections for tests with registries. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CredentialSource } from '../../src/oci/credentials.ts';
import { parseRepository } from '../../src/oci/reference.ts';
import { RegistryClient, type RegistryOptions } from '../../src/oci/registry.ts';
import { SnapshotCollection } from '../../src/state/snapshot-collection.ts';
import { MIGRATIONS } from '../../src/store/migrations/list.ts';

export const NO_CREDENTIALS: CredentialSource = {
  file: '/nowhere/config.json',
  lookup: async () => ({ credential: undefined, problem: undefined }),
};

export function passwordFor(user: string, password: string): CredentialSource {
  const credential = { kind: 'password', user, password } as const;
  return { ...NO_CREDENTIALS, lookup: async () => ({ credential, problem: undefined }) };
}

export function clientOf(repository: string, options: Partial<RegistryOptions> = {}): RegistryClient {
  return new RegistryClient({
    repository: parseRepository(repository),
    access: 'push',
    credentials: NO_CREDENTIALS,
    env: {},
    ...options,
  });
}

/** A directory of the test's own. */
export class Scratch implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'banger-oci-'));

  path(name: string): string {
    return join(this.dir, name);
  }

  collection(): SnapshotCollection {
    return new SnapshotCollection(this.path('snapshots'), MIGRATIONS);
  }

  /** Every file below, with its content: equal before and after what must change nothing. */
  contents(): Readonly<Record<string, string>> {
    const files = readdirSync(this.dir, { recursive: true, withFileTypes: true });
    return Object.fromEntries(
      files.map((file) => {
        const path = join(file.parentPath, file.name);
        return [path, file.isFile() ? readFileSync(path).toString('base64') : '(no file)'];
      }),
    );
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true });
  }
}
