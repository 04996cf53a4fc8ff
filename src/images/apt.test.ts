import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  completeSources,
  defaultSources,
  formatSources,
  isRelease,
  parseIndexTargets,
} from './apt-sources.ts';
import { installedPackages } from './dpkg-status.ts';
import { MmdebstrapProgress } from './mmdebstrap-progress.ts';
import { requireFreeSpace } from './build-space.ts';
import { hasSubordinateIds } from './mmdebstrap.ts';
import { isNoSpaceText, translateFsError } from './no-space.ts';
import type { ImageProgress } from './progress.ts';

test("the host's mirror is used for the suites it has, Debian's for the rest", () => {
  const text = [
    'http://mirror.example/debian/ bookworm main',
    'http://mirror.example/debian/ bookworm contrib',
    'https://user:secret@private.example/debian/ bookworm-updates main',
    'file:/srv/debian/ bookworm-security main',
    'https://other.example/apt/ nodistro main',
    '',
  ].join('\n');
  const sources = completeSources('bookworm', parseIndexTargets(text));
  assert.deepEqual(sources, [
    { uri: 'http://mirror.example/debian', suite: 'bookworm', component: 'main' },
    ...defaultSources('bookworm').slice(1),
  ]);
  assert.equal(defaultSources('bookworm')[2]?.uri, 'http://deb.debian.org/debian-security');
});

test('every source is bound to the keys of the Debian archive', () => {
  const stanzas = formatSources(defaultSources('bookworm'), { indexOnly: true }).split('\n\n');
  assert.equal(stanzas.length, 3);
  for (const stanza of stanzas)
    assert.match(stanza, /^Signed-By: \/usr\/share\/keyrings\/debian-archive-keyring\.gpg$/m);
});

test('only the same Debian release counts as such', () => {
  assert(isRelease('ID=debian\nVERSION_CODENAME=bookworm\n', 'bookworm'));
  assert(!isRelease('ID=ubuntu\nVERSION_CODENAME=bookworm\nID_LIKE=debian\n', 'bookworm'));
  assert(!isRelease('ID=debian\nVERSION_CODENAME=trixie\n', 'bookworm'));
});

test('progress counts packages through both of the runs of apt', () => {
  const seen: ImageProgress[] = [];
  const progress = new MmdebstrapProgress((value) => seen.push(value));
  const lines = [
    'I: running apt-get update...',
    'Get:1 http://mirror bookworm InRelease [151 kB]',
    '0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.',
    'Get:1 http://mirror bookworm/main amd64 a 1 [1 kB]',
    'Get:2 http://mirror bookworm/main amd64 b 1 [1 kB]',
    'Setting up a (1) ...',
    'Setting up b (1) ...',
    '0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.',
    'Get:1 http://mirror bookworm/main amd64 c 1 [1 kB]',
    'Unpacking c (1) ...',
    'Setting up c (1) ...',
    'I: creating tarball...',
  ];
  for (const line of lines) progress.line(line);
  assert.deepEqual(
    seen.map(({ step, done, total }) => [step, done, total]),
    [
      ['index', undefined, undefined],
      ['fetch_base', 1, 2],
      ['fetch_base', 2, 2],
      ['install_base', 0, 2],
      ['install_base', 1, 2],
      ['fetch', 1, 1],
      ['install', 0, 1],
      ['install', 1, 1],
      ['pack', undefined, undefined],
    ],
  );
  assert.deepEqual(progress.trouble, []);
});

test('what explains a failure is kept, in bounds', () => {
  const progress = new MmdebstrapProgress(() => {});
  progress.line('Setting up a (1) ...');
  for (let count = 0; count < 100; count++) progress.line(`E: Unable to fetch ${count} ${'x'.repeat(1000)}`);
  assert.equal(progress.trouble.length, 12);
  assert.match(progress.trouble.at(-1) ?? '', /^E: Unable to fetch 99 x+$/);
  assert((progress.trouble[0] ?? '').length <= 400);
});

test('subordinate ids count by name or number, when there are enough', () => {
  assert(hasSubordinateIds('root:1:65536\nme:100000:65536\n', 'me', 1000));
  assert(hasSubordinateIds('1000:100000:65536\n', 'me', 1000));
  assert(!hasSubordinateIds('me:100000:1000\nyou:100000:65536\n', 'me', 1000));
  assert(!hasSubordinateIds('', 'me', 1000));
});

test('a full disk is told from other failures, in every program’s words', () => {
  assert(isNoSpaceText('write failed: No space left on device'));
  assert(isNoSpaceText("E: You don't have enough free space in /x/"));
  assert(isNoSpaceText('mke2fs: Could not allocate block in ext2 filesystem while populating'));
  assert(!isNoSpaceText('Permission denied'));
  const translated = translateFsError(
    Object.assign(new Error('ENOSPC: no space left on device, write')),
    '/data',
  );
  assert.equal((translated as { code?: string }).code, 'no_space');
});

test('installed packages are listed, removed ones are not', () => {
  const status =
    'Package: zsh\nStatus: install ok installed\nVersion: 5.9\n\n' +
    'Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n' +
    'Package: bash\nStatus: install ok installed\nVersion: 5.2-1\nDescription: shell\n Version: 7\n';
  assert.deepEqual(installedPackages(status), ['bash=5.2-1', 'zsh=5.9']);
});

test('too little free space is said before the work begins', async () => {
  await requireFreeSpace('/', 1);
  await assert.rejects(requireFreeSpace('/', Number.MAX_SAFE_INTEGER), { code: 'no_space' });
});
