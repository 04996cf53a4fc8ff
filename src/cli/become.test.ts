import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const dir = mkdtempSync(join(tmpdir(), 'become-'));
after(() => rmSync(dir, { recursive: true }));

/** A process that would rather be another one. */
function becoming(program: string, args: readonly string[], path: string) {
  const script =
    `import { become } from ${JSON.stringify(join(import.meta.dirname, 'become.ts'))};` +
    `try { become(${JSON.stringify(program)}, ${JSON.stringify(args)}, 'a-package') }` +
    'catch (error) { console.log(error.code, error.hint); process.exit(1) }';
  const env = { ...process.env, PATH: path };
  return spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    env,
    encoding: 'utf8',
    input: 'in',
  });
}

test('the program has the process, its stdin and its arguments, and says how it ends', () => {
  const { status, stdout, stderr, pid } = becoming(
    'sh',
    ['-c', 'echo $$ "$1"; cat; exit 6', 'sh', "it's"],
    '/bin:/usr/bin',
  );
  assert.deepEqual([status, stdout, stderr], [6, `${pid} it's\nin`, '']);
});

test('one that is not there, or cannot be run, is an error that names the package', () => {
  mkdirSync(join(dir, 'ssh'));
  mkdirSync(join(dir, 'other'));
  writeFileSync(join(dir, 'other', 'ssh'), '');
  chmodSync(join(dir, 'other', 'ssh'), 0o644);
  const { status, stdout } = becoming('ssh', [], `${dir}:${join(dir, 'other')}:/nonexistent`);
  assert.deepEqual([status, stdout], [1, 'dependency_missing sudo apt-get install a-package\n']);
});
