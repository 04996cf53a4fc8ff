import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { someImage } from '../../test/helpers/store-records.ts';
import { openStore } from './store.ts';

/**
 * A process that has the database open must never open its files itself: closing any descriptor on the inode drops the
 * process's POSIX locks (fcntl(2)), and a commit of another process can then be lost.
 */
test('the path of the database goes to SQLite and to nothing else', () => {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const allowed = new Set(['openStore(paths.stateDb)', 'openStore(this.#paths.stateDb)']);
  const found: string[] = [];
  for (const file of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts') || file.endsWith('.test.ts') || file === 'host/paths.ts') continue;
    for (const line of readFileSync(join(root, file), 'utf8').split('\n')) {
      const uses = line.match(/(?:[\w.]+\()?[\w.#]*\bstateDb\b\)?/g) ?? [];
      found.push(...uses.filter((use) => !allowed.has(use)).map((use) => `${file}: ${use}`));
    }
  }
  assert.deepEqual(found, []);
});

test('opening a store a second time in one process drops no lock of the first', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'store-'));
  const path = join(dir, 'state.db');
  using store = openStore(path);
  store.upsertImage(someImage());
  openStore(path).close();
  // Whoever closes last checkpoints and deletes the -wal; a shell that comes and goes must not believe it is the last.
  const shell = spawn('sqlite3', [path, 'SELECT count(*) FROM images;'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(shell, 'exit');
  assert.ok(readdirSync(dir).includes('state.db-wal'));
  store.upsertImage(someImage({ name: 'second' }));
  const count = spawnSync('sqlite3', [path, 'SELECT count(*) FROM images;'], { encoding: 'utf8' });
  assert.equal(count.stdout, '2\n');
  store.close();
  rmSync(dir, { recursive: true });
});
