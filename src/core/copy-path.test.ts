import assert from 'node:assert/strict';
import { test } from 'node:test';
import { copyTarget, type CopyTargetKind, parseCopyPath } from './copy-path.ts';

test('the last component is the name, unless it only says where', () => {
  const parsed = (path: string) => {
    const { directory, name, saysDirectory } = parseCopyPath(path);
    return [directory, name, saysDirectory];
  };
  assert.deepEqual(parsed('/a/b'), ['/a', 'b', false]);
  assert.deepEqual(parsed('/a'), ['/', 'a', false]);
  assert.deepEqual(parsed('/a/b//'), ['/a', 'b', true]);
  assert.deepEqual(parsed('/a/..b'), ['/a', '..b', false]);
  for (const contents of ['/', '//', '/a/.', '/a/./', '/a/..']) {
    assert.deepEqual(parsed(contents), [contents, '', true]);
  }
});

/** `into DIR`, `DIR as NAME`, or why not. */
function goes(source: string | undefined, isDirectory: boolean, to: string, kind: CopyTargetKind): string {
  const from = source === undefined ? undefined : parseCopyPath(source);
  const target = copyTarget(from, isDirectory, parseCopyPath(to), kind);
  if (typeof target === 'string') return target;
  const { directory, name, isNew } = target;
  return `${isNew ? 'new ' : ''}${name === '' ? `into ${directory}` : `${directory} as ${name}`}`;
}

test('a source goes where cp would put it', () => {
  assert.equal(goes('/s/f', false, '/d', 'directory'), '/d as f');
  assert.equal(goes('/s/f', false, '/d/', 'directory'), '/d/ as f');
  assert.equal(goes('/s/f', false, '/d/new', 'missing'), '/d as new');
  assert.equal(goes('/s/f', false, '/d/old', 'other'), '/d as old');
  assert.equal(goes('/s/f', false, '/d/new/', 'missing'), 'missing-directory');
  assert.equal(goes('/s/f', false, '/d/old/', 'other'), 'not-a-directory');
  assert.equal(goes('/s/t', true, '/d', 'directory'), '/d as t');
  assert.equal(goes('/s/t', true, '/d/new/', 'missing'), '/d as new');
  assert.equal(goes('/s/t', true, '/d/old', 'other'), 'not-a-directory');
  assert.equal(goes('/s/t/.', true, '/d', 'directory'), 'into /d');
  assert.equal(goes('/s/t/.', true, '/d/new', 'missing'), 'new into /d/new');
  assert.equal(goes('/s/t/.', true, '/d/old', 'other'), 'not-a-directory');
  assert.equal(goes('/s/f', false, '/d/.', 'missing'), 'missing-directory');
  assert.equal(goes(undefined, false, '/d', 'directory'), 'is-a-directory');
  assert.equal(goes(undefined, false, '/d/new', 'missing'), '/d as new');
});
