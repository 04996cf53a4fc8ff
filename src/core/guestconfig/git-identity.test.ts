import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gitConfigText } from './git-identity.ts';

test('git reads back what was written, whatever is in it', () => {
  const dir = mkdtempSync(join(tmpdir(), 'gitconfig-'));
  try {
    const identity = { name: 'A "B" \\ # ; [x] \u{1f600}\nsecond line', email: ' a@b ' };
    const file = join(dir, 'config');
    writeFileSync(file, gitConfigText(identity));
    for (const [key, value] of Object.entries(identity)) {
      const read = execFileSync('git', ['config', '--null', '--file', file, `user.${key}`]);
      assert.equal(read.toString(), `${value}\0`);
    }
    assert.match(gitConfigText({ name: 'x' }), /^# [^\n]+\n\[user\]\n\tname = "x"\n$/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
