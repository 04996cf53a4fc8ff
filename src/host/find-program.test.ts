import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findProgram } from './find-program.ts';

test('finds what execvp would run: the first executable of that name in PATH', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'banger-find-'));
  t.after(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'tool'), '#!/bin/sh\n');
  await assert.rejects(findProgram('tool', dir), { code: 'dependency_missing' });
  chmodSync(join(dir, 'tool'), 0o755);
  assert.equal(await findProgram('tool', `/nonexistent:${dir}`), join(dir, 'tool'));
  assert.equal(await findProgram(join(dir, 'tool'), ''), join(dir, 'tool'));
});
