import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { runner, temporaryDir } from '../../test/helpers/host-repo.ts';
import { guestGitConfig, parseGitSettings } from './guest-git-config.ts';

function configOf(settings: Record<string, string[]>): string {
  return guestGitConfig({
    settings: new Map(Object.entries(settings)),
    objectFormat: 'sha1',
    partialClone: false,
  });
}

test('git reads back any value', async (t) => {
  const file = join(await temporaryDir(t), 'config');
  const value = fc.string({ unit: 'grapheme', maxLength: 30 }).map((text) => text.replaceAll(/[\0\r]/g, ''));
  await fc.assert(
    fc.asyncProperty(value, async (name) => {
      writeFileSync(file, configOf({ 'user.name': [name] }));
      const { stdout } = await runner.run(['git', 'config', '-z', '--file', file, 'user.name']);
      assert.equal(stdout.toString('utf8'), `${name}\0`);
    }),
    { numRuns: 60 },
  );
});

test('carries what decides how files look, and nothing that could be a secret or a command', () => {
  const text = configOf({
    'core.autocrlf': ['false', 'input'],
    'core.filemode': ['false'],
    'core.hookspath': ['/home/me/hooks'],
    'core.sshcommand': ['ssh -i secret'],
    'credential.helper': ['store'],
    'http.extraheader': ['AUTHORIZATION: basic secret'],
    'filter.x.clean': ['rm -rf /'],
    'url.https://token@example.com/.insteadof': ['https://example.com/'],
    'remote.origin.url': ['https://me:secret@example.com/a.git'],
    'remote.origin.proxy': ['http://secret@proxy'],
    'remote.other.url': ['https://example.com/other.git'],
  });
  assert.match(text, /autocrlf = input\n/);
  assert.match(text, /filemode = false\n/);
  assert.match(text, /\[remote "origin"\]\n\turl = https:\/\/example.com\/a.git\n/);
  assert.doesNotMatch(text, /secret|hooks|credential|rm -rf|token|other/);
});

test('without an origin the first remote becomes it', () => {
  const text = configOf({ 'remote.up.stream.url': ['git@example.com:a.git'] });
  assert.match(text, /\[remote "origin"\]\n\turl = git@example.com:a.git\n/);
  assert.doesNotMatch(configOf({}), /remote/);
});

test('reads the listing of git config', () => {
  const settings = parseGitSettings(Buffer.from('a.b\n1\nx\0a.b\n2\0core.bare\0'));
  assert.deepEqual(
    [...settings],
    [
      ['a.b', ['1\nx', '2']],
      ['core.bare', ['true']],
    ],
  );
});
