import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { inspectPrevious } from './inspect-previous.ts';

/** What is found of a database that these statements made. */
async function inspected(sql: string) {
  const dir = mkdtempSync(join(tmpdir(), 'inspect-'));
  const scratch = join(dir, 'scratch');
  mkdirSync(scratch);
  try {
    const path = join(dir, 'state.db');
    const database = new DatabaseSync(path);
    database.exec(sql);
    database.close();
    const previous = await inspectPrevious(path, scratch);
    return previous.kind === 'readable' ? previous.facts : previous.kind;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

test('a history that no banger wrote is no error: there is something, and it can be replaced', async () => {
  const none = { migrationVersion: 0, controlVersion: 0n, vms: 0, images: 0 };
  assert.deepEqual(
    await inspected("CREATE TABLE schema_migrations (id); INSERT INTO schema_migrations VALUES ('v1')"),
    none,
  );
  assert.deepEqual(
    await inspected('CREATE TABLE schema_migrations (id); INSERT INTO schema_migrations VALUES (1.5)'),
    none,
  );
  assert.deepEqual(await inspected('CREATE TABLE schema_migrations (id INTEGER PRIMARY KEY)'), none);
  const large = `CREATE TABLE schema_migrations (id); INSERT INTO schema_migrations VALUES (${2n ** 60n})`;
  assert.deepEqual(await inspected(large), { ...none, migrationVersion: 2 ** 60 });
  assert.equal(await inspected('CREATE TABLE schema_migrations (version)'), 'damaged');
});
