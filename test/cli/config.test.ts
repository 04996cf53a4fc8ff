/** `banger config`: the real program without a daemon, and what it says of one that runs. */

import assert from 'node:assert/strict';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import type { ConfigChecked, ConfigShown } from '../../src/core/model/config.ts';
import { fakeCli } from './fake-cli.ts';
import { StateHome } from './state-home.ts';

function withSettings(home: StateHome, text: string): string {
  const file = join(home.dir, 'config', 'config.toml');
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(file, text);
  return file;
}

test('show and path: each setting with its source', async () => {
  await using home = new StateHome();
  const file = withSettings(home, 'accel = "tcg"\n');
  assert.equal((await home.run(['config', 'path'])).stdout, `${file}\n`);
  const { stdout, status } = await home.run(['config', 'show']);
  assert.equal(status, 0);
  assert.match(stdout, /^KEY +VALUE +FROM\n/);
  assert.ok(
    stdout.split('\n').some((line) => /^accel +"tcg" +\//.test(line) && line.endsWith(`${file}:1`)),
    stdout,
  );
  assert.match(stdout, /^qemu_bin +- +default: qemu-system-x86_64 from PATH$/m);
  const shown = JSON.parse((await home.run(['config', 'show', '--json'])).stdout) as ConfigShown;
  const accel = shown.entries.find(({ key }) => key === 'accel');
  assert.deepEqual(accel, { key: 'accel', value: 'tcg', source: 'file', line: 1, column: 1, note: null });
});

test('check: all mistakes, of the file that counts or of another one', async () => {
  await using home = new StateHome();
  const file = withSettings(home, 'accel = "x"\njailer_bin = "/j"\n');
  const { stdout, status } = await home.run(['config', 'check']);
  assert.equal(status, 1);
  assert.equal(
    stdout,
    `${file}:1:1: accel: must be one of "auto", "kvm", "tcg"\n` +
      `${file}:2:1: unknown key "jailer_bin"\n` +
      '  jailer_bin does not apply: VMs run without root here, and there is no jailer\n',
  );
  const other = join(home.dir, 'other.toml');
  writeFileSync(other, 'accel = "kvm"\n');
  assert.deepEqual(
    [
      (await home.run(['config', 'check', other])).stdout,
      (await home.run(['config', 'check', other])).status,
    ],
    [`${other}: ok\n`, 0],
  );
  const json = await home.run(['config', 'check', '--json']);
  assert.equal(json.status, 1);
  const { problems, unlisted, ...rest } = JSON.parse(json.stdout) as ConfigChecked;
  assert.deepEqual(rest, { file, exists: true });
  assert.deepEqual([problems.length, unlisted], [2, 0]);
  assert.deepEqual(problems[0], {
    ...{ where: file, line: 1, column: 1, key: 'accel', hint: null },
    message: 'accel: must be one of "auto", "kvm", "tcg"',
  });
  const missing = await home.run(['config', 'check', join(home.dir, 'none.toml')]);
  assert.equal(missing.status, 1);
  assert.match(missing.stderr, /there is no file .*none\.toml/);
  const broken = await home.run(['config', 'show']);
  assert.equal(broken.status, 1);
  assert.match(broken.stderr, /accel: must be one of[^]*\n1 more mistake: banger config check lists all\n/);
});

test('check: what cannot be read as settings at all', async () => {
  await using home = new StateHome();
  const file = withSettings(home, '');
  const says = async (): Promise<readonly [number | null, string]> => {
    const { status, stdout, stderr } = await home.run(['config', 'check']);
    return [status, `${stdout}${stderr}`];
  };
  assert.deepEqual(await says(), [0, `${file}: ok\n`]);
  writeFileSync(file, Buffer.from([0x61, 0xff, 0x00]));
  assert.deepEqual(await says(), [1, `${file}:1:2: is not UTF-8 here\n  save the file as text in UTF-8\n`]);
  writeFileSync(file, Array.from({ length: 102 }, (_, n) => `k${n} = 1\n`).join(''));
  assert.match((await says())[1], /:100:1: unknown key "k99"\n {2}allowed: .*\nand 2 more\n$/);
  writeFileSync(file, '#'.repeat(300 * 1024));
  assert.deepEqual(await says(), [1, `banger: ${file} is larger than 262144 bytes\n`]);
  rmSync(file);
  assert.deepEqual(await says(), [0, `${file}: not there: defaults\n`]);
  symlinkSync('nowhere', file);
  assert.deepEqual(await says(), [1, `${file} is a symbolic link to what is not there: defaults\n`]);
});

test('schema: JSON Schema', async () => {
  await using home = new StateHome();
  const { stdout } = await home.run(['config', 'schema']);
  const schema = JSON.parse(stdout) as {
    $schema: string;
    properties: Record<string, { description: string }>;
  };
  assert.equal(schema.$schema, 'https://json-schema.org/draft/2020-12/schema');
  assert.match(schema.properties['accel']?.description ?? '', /software emulation/);
});

test('a daemon that was started with other settings is told of', async () => {
  const entry = { key: 'accel', source: 'file' as const, line: 1, column: 1, note: null };
  const shown = (value: string): ConfigShown => ({
    ...{ file: '/c.toml', exists: true, digest: value, entries: [{ ...entry, value }] },
  });
  const run = async (...values: string[]) =>
    await fakeCli(['config', 'show'], { answers: { 'config.show': () => shown(values.shift() ?? '') } });
  const same = await run('tcg', 'tcg');
  assert.deepEqual([same.status, same.stderr], [0, '']);
  assert.equal(same.offlines, 1);
  assert.deepEqual(same.connects, [{ start: false }]);
  assert.match((await run('tcg', 'kvm')).stderr, /^note: the running daemon has other settings: accel\n/);
});
