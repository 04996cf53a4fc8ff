import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryPath } from './files.ts';
import { noteOutside, sweepOutside } from './outside.ts';

const DEAD = /\.tmp-\d+-\d+-/;
const deadNameOf = (path: string): string => temporaryPath(path).replace(DEAD, '.tmp-1-1-');

function places(t: TestContext): { scratch: string; user: string; note: (path: string) => void } {
  const dir = mkdtempSync(join(tmpdir(), 'outside-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const [scratch, user] = [join(dir, 'scratch'), join(dir, 'user')];
  for (const one of [scratch, user]) mkdirSync(one);
  const note = (path: unknown): void =>
    writeFileSync(deadNameOf(join(scratch, 'outside')), JSON.stringify(path));
  return { scratch, user, note };
}

test('a note is there as long as what it is for', async (t) => {
  const { scratch, user } = places(t);
  {
    await using _note = await noteOutside(scratch, temporaryPath(join(user, 'file')));
    assert.equal(readdirSync(scratch).length, 1);
    assert.deepEqual(await sweepOutside(scratch), [], 'of a process that lives');
  }
  assert.deepEqual(readdirSync(scratch), []);
});

test('what dead processes noted is removed, files and directories, and nothing else', async (t) => {
  const { scratch, user, note } = places(t);
  const [file, dir] = [deadNameOf(join(user, 'file')), deadNameOf(join(user, 'dir'))];
  writeFileSync(file, 'half');
  mkdirSync(join(dir, 'files'), { recursive: true });
  symlinkSync(user, join(dir, 'files', 'link'));
  writeFileSync(join(user, 'file'), 'of the user');
  const mine = temporaryPath(join(user, 'mine'));
  writeFileSync(mine, 'half');
  for (const path of [file, dir, mine, join(user, 'file'), 'relative', 7, deadNameOf(join(user, 'gone'))])
    note(path as string);
  writeFileSync(deadNameOf(join(scratch, 'outside')), '"unfini');
  const swept = await sweepOutside(scratch);
  assert.deepEqual(swept.filter((path) => !path.includes('gone')).toSorted(), [dir, file].toSorted());
  assert.deepEqual(readdirSync(scratch), []);
  assert(!existsSync(file) && !existsSync(dir));
  assert.equal(readdirSync(user).length, 2);
});
