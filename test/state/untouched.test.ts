/** D3: an export through SQLite's `mode=ro` leaves -wal and -shm behind, or rewrites them. Ours opens the original never. */

import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { DatabaseSync } from 'node:sqlite';
import * as snapshot from '../../src/state/snapshot.ts';
import { MIGRATIONS } from '../../src/store/migrations/list.ts';
import { viewSource } from '../../src/store/state-source.ts';
import { fingerprint } from '../helpers/fingerprint.ts';
import { makeStates, resetTo, type States } from './restore-states.ts';

const OPTIONS = {
  migrations: MIGRATIONS,
  version: '1.2.3',
  encoding: 'identity',
  createdAt: '2026-01-31T12:00:00.000Z',
} as const;

let root = '';
let states: States;
before(() => {
  root = mkdtempSync(join(tmpdir(), 'untouched-'));
  states = makeStates(join(root, 'states'));
});
after(() => rmSync(root, { recursive: true }));

for (const state of ['clean', 'crashed'] as const) {
  test(`D3: an export of a ${state} database changes no byte and no name beside it`, async () => {
    const dir = join(root, state);
    resetTo(join(states.dir, state), dir);
    chmodSync(dir, 0o500);
    const before = fingerprint(dir);
    const exported = await viewSource(join(dir, 'state.db')).read((database) =>
      snapshot.export(database, OPTIONS),
    );
    assert.ok(exported !== undefined && exported.data.length > 0);
    assert.deepEqual(fingerprint(dir), before);
    chmodSync(dir, 0o700);
    // What this is about: a reader that lets SQLite open the file in place does change it.
    using direct = new DatabaseSync(`file:${join(dir, 'state.db')}?mode=ro`, { readOnly: true });
    direct.prepare('SELECT count(*) FROM vms').get();
    assert.notDeepEqual(fingerprint(dir), before);
  });
}
