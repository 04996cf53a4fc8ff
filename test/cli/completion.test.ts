import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { COMPLETION_SCRIPTS } from '../../src/cli/completion-scripts.ts';
import { type FakeOptions, fakeCli, fakeVm } from './fake-cli.ts';

const withVms: FakeOptions = { answers: { 'vm.list': () => [fakeVm('dev'), fakeVm('web')] } };

async function complete(words: readonly string[], options: FakeOptions = withVms) {
  const result = await fakeCli(['__complete', '--', ...words], options);
  assert.equal(result.status, 0);
  assert.equal(result.stderr, '');
  return {
    ...result,
    words: result.stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split('\t')[0]),
  };
}

test('commands, and what they do', async () => {
  assert.deepEqual((await complete(['da'])).stdout, 'daemon\tThe background program that owns the VMs\n');
  assert.deepEqual((await complete(['vm', 'st'])).words, ['start', 'stop', 'stats']);
  assert.ok(!(await complete([''])).words.includes('__complete'));
});

test('names of VMs, from a daemon that runs; none is started', async () => {
  const { words, connects, closes } = await complete(['vm', 'show', '']);
  assert.deepEqual(words, ['dev', 'web']);
  assert.deepEqual(connects, [{ start: false }]);
  assert.equal(closes, 1);
  assert.deepEqual((await complete(['vm', 'stop', 'dev', 'w'])).words, ['web']);
  assert.deepEqual((await complete(['vm', 'stop', '--', 'w'])).words, ['web']);
  assert.ok(!(await complete(['vm', 'stop', '--'])).words.includes('--'));
});

test('no daemon, or one that fails: silence', async () => {
  assert.equal((await complete(['vm', 'show', ''], { daemon: false })).stdout, '');
  assert.equal((await complete(['vm', 'show', ''], { answers: {} })).stdout, '');
});

test('flags after a dash only, and the values of a choice', async () => {
  assert.deepEqual((await complete(['vm', 'run', '--no'])).words, ['--no-nat', '--no-bootstrap', '--no-tty']);
  assert.deepEqual((await complete(['vm', 'run', '--init', ''])).words, ['agent', 'systemd']);
  assert.deepEqual((await complete(['completion', ''])).words, ['bash', 'zsh', 'fish']);
});

test('paths, and the command of the guest, are the shell’s to complete', async () => {
  assert.equal((await complete(['vm', 'run', ''])).stdout, ':files\n');
  assert.equal((await complete(['vm', 'run', '--', 'm'])).stdout, ':files\n');
  assert.equal((await complete(['nonsense', ''])).stdout, '');
  assert.equal((await complete(['state', 'verify', '--', '-'])).stdout, ':files\n');
});

test('the bash script asks, and offers what it is told', () => {
  const dir = mkdtempSync(join(tmpdir(), 'banger-completion-'));
  try {
    const program = join(dir, 'banger');
    writeFileSync(
      program,
      '#!/bin/sh\nprintf "<%s>" "$@" >"$(dirname "$0")/asked"\nprintf "dev\\tA VM\\nweb\\tA VM\\n"\n',
    );
    chmodSync(program, 0o755);
    const script = `${COMPLETION_SCRIPTS.get('bash')}
      COMP_WORDS=("$1" vm show ''); COMP_CWORD=3; _banger; printf '%s\\n' "\${COMPREPLY[@]}"; cat "$2/asked"`;
    const output = execFileSync('bash', ['-c', script, 'bash', program, dir], { encoding: 'utf8' });
    assert.equal(output, 'dev\nweb\n<__complete><--><vm><show><>');
  } finally {
    rmSync(dir, { recursive: true });
  }
});

for (const [shell, check] of [
  ['bash', ['-n']],
  ['zsh', ['-n']],
  ['fish', ['--no-execute']],
] as const) {
  const there = spawnSync(shell, ['--version']).error === undefined;
  test(`the ${shell} script parses`, { skip: there ? false : `${shell} is not installed` }, async () => {
    const { stdout, status } = await fakeCli(['completion', shell]);
    assert.equal(status, 0);
    const { status: parsed, stderr } = spawnSync(shell, [...check], {
      input: stdout,
      encoding: 'utf8',
    });
    assert.equal(parsed, 0, stderr);
  });
}
