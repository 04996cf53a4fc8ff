import assert from 'node:assert/strict';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { mkdtempDisposableSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { isOpenHere, rememberOpen } from './open-here.ts';

test('a database that is open here, by any name, and what cannot be reached', () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), 'banger-open-'));
  const path = join(dir.path, 'state.db');
  assert.equal(isOpenHere(path), false);
  {
    using database = new DatabaseSync(path);
    database.exec('CREATE TABLE t (x)');
    rememberOpen(path, database);
    symlinkSync(path, join(dir.path, 'link'));
    assert.equal(isOpenHere(path), true);
    assert.equal(isOpenHere(join(dir.path, 'link')), true);
  }
  assert.equal(isOpenHere(path), false);
  // As a directory of another user: whoever opens it is told.
  symlinkSync('loop', join(dir.path, 'loop'));
  assert.equal(isOpenHere(join(dir.path, 'loop', 'state.db')), false);
});
