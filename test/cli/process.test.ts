import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const program = join(import.meta.dirname, '../../src/main/banger.ts');
const env = { ...process.env, BANGER_HOME: '/nonexistent/banger' };

function banger(...args: string[]) {
  return spawnSync(process.execPath, [program, ...args], { encoding: 'utf8', env });
}

test('version: three lines; --version: one', () => {
  const three = banger('version');
  assert.equal(three.status, 0);
  assert.match(three.stdout, /^version: \d+\.\d+\.\d+\ncommit: \S+\nbuilt_at: \S+\n$/);
  const one = banger('--version');
  assert.equal(one.status, 0);
  assert.match(one.stdout, /^banger \d+\.\d+\.\d+ \(\S+\)\n$/);
});

test('statuses reach the shell', () => {
  assert.equal(banger('vm', 'bogus').status, 2);
  assert.equal(banger('daemon', 'status').status, 1);
});

test('a reader of stdout that goes away is no reason to complain', () => {
  const script = '"$0" "$1" --help | true; echo "${PIPESTATUS[0]}"';
  const { stdout, stderr } = spawnSync('bash', ['-c', script, process.execPath, program], {
    encoding: 'utf8',
    env,
  });
  assert.equal(stderr, '');
  assert.equal(stdout, '0\n');
});

test('a full disk under stdout is one', () => {
  const full = openSync('/dev/full', 'w');
  try {
    const result = spawnSync(process.execPath, [program, 'version'], {
      stdio: ['ignore', full, 'pipe'],
      encoding: 'utf8',
      env,
    });
    assert.match(result.stderr, /^banger: cannot write to stdout: no space left on device\n/);
    assert.equal(result.status, 1);
  } finally {
    closeSync(full);
  }
});
