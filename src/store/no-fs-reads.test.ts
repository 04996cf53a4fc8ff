import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { someImage } from '../../test/helpers/store-records.ts';
import { openReadOnlyView } from './read-only-view.ts';
import { openStore } from './store.ts';

/**
 * A process that has the database open must never open its files itself: closing any descriptor on the inode drops the
 * process's POSIX locks (fcntl(2)), and a commit of another process can then be lost. Of the modules the daemon loads,
 * what may be given the path, and why:
 */
const MAY_HAVE_THE_PATH: Readonly<Record<string, string>> = {
  openStore: 'SQLite opens it',
  settleRestore: 'before the store is opened',
  isMissingOrEmpty: 'opens nothing',
  verifyDatabase: 'for messages',
};

const SRC = fileURLToPath(new URL('..', import.meta.url));

/** The file and all it imports, directly or not; what is imported as a type only is not loaded. */
function loadedBy(entry: string, found = new Set<string>()): ReadonlySet<string> {
  if (found.has(entry)) return found;
  found.add(entry);
  const text = readFileSync(join(SRC, entry), 'utf8');
  for (const match of text.matchAll(
    /(?:^|\n)(?:import|export)\s(?!type\s)[^;]*?from\s+'(\.[^']+)'|import\(\s*'(\.[^']+)'/g,
  )) {
    loadedBy(join(dirname(entry), match[1] ?? match[2] ?? ''), found);
  }
  return found;
}

test('in the daemon, the path of the database goes to SQLite, and to nothing that opens it beside SQLite', () => {
  const files = [...loadedBy('daemon/daemon.ts')].filter((file) => file !== 'host/paths.ts');
  assert.ok(files.includes('store/vms.ts') && files.length > 50, `${files.length} files`);
  const found: string[] = [];
  let allowed = 0;
  for (const file of files) {
    const text = readFileSync(join(SRC, file), 'utf8');
    // What it is put into, if that is a call or a message; a parameter or a field of another name would be out of sight.
    for (const match of text.matchAll(/(?:(\w+)\(\s*|(\$\{)|\{ [^}]*)?[\w.#]*\bstateDb\b/g)) {
      const isCall = match[1] !== undefined;
      const fine = isCall
        ? Object.hasOwn(MAY_HAVE_THE_PATH, match[1] ?? '')
        : match[2] !== undefined || match[0].startsWith('{');
      if (fine) allowed += 1;
      else found.push(`${file}: ${match[0]}`);
    }
  }
  assert.deepEqual(found, []);
  assert.ok(allowed >= 3, `${allowed} uses`);
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
