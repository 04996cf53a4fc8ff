import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { BangerError } from '../core/errors.ts';
import { assertSocketPath, ensurePrivateDir, resolvePaths, vmDir, vmRuntimeDir } from './paths.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'paths-'));
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

const ID = '0123456789abcdef0123456789abcdef';

test('XDG directories, each with its own default', () => {
  const paths = resolvePaths({ HOME: '/home/u' }, 1000);
  assert.equal(paths.home, null);
  assert.equal(paths.configFile, '/home/u/.config/banger/config.toml');
  assert.equal(paths.stateDb, '/home/u/.local/state/banger/state.db');
  assert.equal(paths.initramfsDir, '/home/u/.cache/banger/initramfs');
  assert.equal(paths.socketPath, '/tmp/banger-runtime-1000-9cef8377/bangerd.sock');
  const env = {
    HOME: '/home/u',
    XDG_STATE_HOME: '/s',
    XDG_RUNTIME_DIR: '/run/user/1000',
    XDG_CACHE_HOME: 'relative',
  };
  const moved = resolvePaths(env, 1000);
  assert.equal(moved.stateDir, '/s/banger');
  assert.equal(moved.streamSocketPath, '/run/user/1000/banger-e948764d/stream.sock');
  assert.equal(moved.cacheDir, '/home/u/.cache/banger', 'the specification: a relative path is ignored');
});

test('two homes of one user have two runtime directories', () => {
  const runtimeDir = (home: string): string =>
    resolvePaths({ HOME: home, XDG_RUNTIME_DIR: '/run' }, 1).runtimeDir;
  assert.notEqual(runtimeDir('/home/a'), runtimeDir('/home/b'));
});

test('BANGER_HOME puts everything below one directory and needs no HOME', () => {
  const paths = resolvePaths({ BANGER_HOME: '/b/', XDG_STATE_HOME: '/s' }, 1000);
  for (const [key, path] of Object.entries(paths))
    assert.ok(path === '/b' || path.startsWith('/b/'), `${key} ${path}`);
  assert.equal(paths.home, '/b');
});

test('all paths but the directories themselves are different', () => {
  const { home: _, ...paths } = resolvePaths({ HOME: '/h' }, 1);
  assert.equal(new Set(Object.values(paths)).size, Object.values(paths).length);
});

test('what cannot be resolved is said', () => {
  assert.throws(() => resolvePaths({}, 1), /HOME is not set to an absolute path/);
  assert.throws(() => resolvePaths({ BANGER_HOME: 'x' }, 1), /BANGER_HOME must be an absolute path, not "x"/);
});

test('a runtime directory that leaves no room for sockets is refused before anything is made', () => {
  const longest = `/${'x'.repeat(75)}`;
  assert.equal(join(vmRuntimeDir(resolvePaths({ BANGER_HOME: longest }, 1), ID), 'agent.sock').length, 107);
  assert.throws(
    () => resolvePaths({ BANGER_HOME: `${longest}x` }, 1),
    (error) =>
      error instanceof BangerError &&
      error.message.includes('is 108 bytes long; Unix allows 107') &&
      error.hint?.includes('BANGER_HOME') === true,
  );
  assert.throws(() => assertSocketPath(`/${'é'.repeat(54)}`), /109 bytes/, 'bytes, not characters');
});

test('a VM has a durable directory and a short one for sockets', () => {
  const paths = resolvePaths({ HOME: '/h', XDG_RUNTIME_DIR: '/run/user/1' }, 1);
  assert.equal(vmDir(paths, ID), `/h/.local/state/banger/vms/${ID}`);
  assert.equal(vmRuntimeDir(paths, ID), '/run/user/1/banger-40b98fe8/vm/0123456789ab');
});

test('a private directory is made with its parents, and taken as it is the second time', () => {
  const path = join(dir, 'a/b/c');
  ensurePrivateDir(path);
  ensurePrivateDir(path);
  for (const each of ['a', 'a/b', 'a/b/c']) assert.equal(statSync(join(dir, each)).mode & 0o777, 0o700);
});

const permission = (pattern: RegExp) => (error: unknown) =>
  error instanceof BangerError &&
  error.code === 'permission' &&
  pattern.test(error.message) &&
  error.hint !== undefined;

test('a directory that is not private is refused and left as it is', () => {
  const open = join(dir, 'open');
  mkdirSync(open);
  chmodSync(open, 0o750);
  assert.throws(() => ensurePrivateDir(open), permission(/open to other users \(mode 0750\)/));
  assert.equal(statSync(open).mode & 0o777, 0o750);
  const file = join(dir, 'file');
  writeFileSync(file, 'x');
  assert.throws(() => ensurePrivateDir(file), permission(/is not a directory/));
  const link = join(dir, 'link');
  symlinkSync(dir, link);
  assert.throws(() => ensurePrivateDir(link), permission(/is a symbolic link/));
  symlinkSync(join(dir, 'nowhere'), join(dir, 'dangling'));
  assert.throws(() => ensurePrivateDir(join(dir, 'dangling')), permission(/is a symbolic link/));
});

test('a directory of another user is refused', {
  skip: process.getuid?.() === 0 ? false : 'needs root',
}, async () => {
  const { chownSync } = await import('node:fs');
  const path = join(dir, 'theirs');
  mkdirSync(path, { mode: 0o700 });
  chownSync(path, 12_345, 12_345);
  assert.throws(() => ensurePrivateDir(path), permission(/belongs to uid 12345, not to uid 0/));
});

test('a parent that is a file is told apart from a directory that is there', () => {
  writeFileSync(join(dir, 'file'), 'x');
  assert.throws(() => ensurePrivateDir(join(dir, 'file/sub')), /cannot make the directory .*file\/sub/);
});

test('the CLI can load this file cheaply: node:fs, node:path and the errors, nothing else', () => {
  const source = readFileSync(new URL('./paths.ts', import.meta.url), 'utf8');
  const imports = [...source.matchAll(/from '([^']+)'/g)].map((match) => match[1]);
  assert.deepEqual(imports, ['node:fs', 'node:path', '../core/errors.ts', '../core/system-error.ts']);
});
