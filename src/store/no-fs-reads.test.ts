import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { someImage } from '../../test/helpers/store-records.ts';
import { openReadOnlyView } from './read-only-view.ts';
import { openStore } from './store.ts';

/**
 * A process that has the database open must never open its files itself: closing any descriptor on the inode drops the
 * process's POSIX locks (fcntl(2)), and a commit of another process can then be lost. Who may have the path, and why:
 */
const MAY_HAVE_THE_PATH: Readonly<Record<string, string>> = {
  openStore: 'SQLite opens it',
  openReadOnlyView: 'refuses in a process that has it open',
  viewSource: 'as openReadOnlyView',
  checkMigrations: 'as openReadOnlyView',
  bootstrap: 'under the instance lock, without a store',
  isFresh: 'opens nothing',
  settleRestore: 'under the instance lock, before the store is opened',
  isMissingOrEmpty: 'opens nothing',
};
/** It also puts the path into a message. */
const MAY_NAME_IT = /^daemon\/lost-state\.ts$/;
/** Runs in a process of its own, without a store, and reads through the view. */
const NEVER_HAS_IT_OPEN = /^daemon\/doctor\//;

test('the path of the database goes to SQLite, and to nothing that opens it beside SQLite', () => {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const found: string[] = [];
  let seen = 0;
  for (const file of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts') || file.endsWith('.test.ts') || file === 'host/paths.ts') continue;
    if (NEVER_HAS_IT_OPEN.test(file)) continue;
    const text = readFileSync(join(root, file), 'utf8');
    for (const match of text.matchAll(/(?:(\w+)\(\s*)?[\w.#]*\bstateDb\b/g)) {
      seen += 1;
      const callee = match[1];
      const allowed =
        callee === undefined ? MAY_NAME_IT.test(file) : Object.hasOwn(MAY_HAVE_THE_PATH, callee);
      if (!allowed) found.push(`${file}: ${match[0]}`);
    }
  }
  assert.deepEqual(found, []);
  assert.ok(seen >= 3, `${seen} uses`);
});

test('a process that has the database open cannot have a view of it, under any name', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'store-'));
  const path = join(dir, 'state.db');
  const store = openStore(path);
  symlinkSync(dir, join(dir, 'link'));
  for (const name of [path, join(dir, 'link/state.db')]) {
    await assert.rejects(openReadOnlyView(name), { code: 'ERR_ASSERTION' }, name);
  }
  store.close();
  (await openReadOnlyView(path))?.[Symbol.dispose]();
  rmSync(dir, { recursive: true });
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
