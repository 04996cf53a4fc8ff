import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { editFile } from './edit-file.ts';

let dir = '';
let file = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'edit-'));
  file = join(dir, 'ssh', 'config');
});
afterEach(() => rmSync(dir, { recursive: true }));

function write(text: string | Uint8Array, mode = 0o644): void {
  mkdirSync(join(dir, 'ssh'), { recursive: true });
  writeFileSync(file, text);
  chmodSync(file, mode);
}

const append = (text: string | null): string => `${text ?? ''}more`;

test('bytes, mode and everything else in the directory stay', async () => {
  const bytes = Buffer.from([...Array(256).keys()]);
  write(bytes, 0o664);
  assert.equal(await editFile(file, append), true);
  assert.deepEqual(readFileSync(file), Buffer.concat([bytes, Buffer.from('more')]));
  assert.equal(statSync(file).mode & 0o7777, 0o664);
  assert.deepEqual(readdirSync(join(dir, 'ssh')), ['config']);
});

test('what changes nothing writes nothing', async () => {
  write('x');
  const before = statSync(file, { bigint: true });
  assert.equal(await editFile(file, (text) => text), false);
  assert.equal(statSync(file, { bigint: true }).ctimeNs, before.ctimeNs);
  rmSync(join(dir, 'ssh'), { recursive: true });
  assert.equal(await editFile(file, () => null), false);
  assert.equal(existsSync(join(dir, 'ssh')), false);
});

test('a missing file is made for its owner alone, and so is its directory; a directory is never removed', async () => {
  assert.equal(await editFile(file, append), true);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(statSync(join(dir, 'ssh')).mode & 0o777, 0o700);
  assert.equal(await editFile(file, () => null), true);
  assert.deepEqual(readdirSync(join(dir, 'ssh')), []);
});

test('a link stays one, and what it leads to is changed in its place', async () => {
  write('dotfiles', 0o640);
  const link = join(dir, 'link');
  symlinkSync('ssh/config', link);
  await editFile(link, append);
  assert.equal(readlinkSync(link), 'ssh/config');
  assert.equal(readFileSync(file, 'utf8'), 'dotfilesmore');
  assert.equal(statSync(file).mode & 0o777, 0o640);
  await editFile(link, () => null);
  assert.ok(lstatSync(link).isSymbolicLink());
  assert.equal(readFileSync(file, 'utf8'), '');
  rmSync(file);
  await assert.rejects(editFile(link, append), {
    code: 'io_error',
    message: /a link to a file that is not there/,
  });
  assert.equal(existsSync(file), false);
});

test('a file that is not to be written is left alone, and so is what is no file', async () => {
  write('x', 0o444);
  await assert.rejects(editFile(file, append), { code: 'permission', hint: `chmod u+w ${file}` });
  assert.equal(readFileSync(file, 'utf8'), 'x');
  await assert.rejects(editFile(join(dir, 'ssh'), append), { code: 'io_error' });
});

test('a change by somebody else meanwhile is not lost', async () => {
  write('x');
  const race = editFile(file, (text) => {
    writeFileSync(file, 'theirs, and longer');
    return append(text);
  });
  await assert.rejects(race, { code: 'in_use' });
  assert.equal(readFileSync(file, 'utf8'), 'theirs, and longer');
  assert.deepEqual(readdirSync(join(dir, 'ssh')), ['config']);
});
