import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fillTemplate, publishTemplate, templateKey } from '../../test/helpers/frozen-files.ts';
import { BangerError } from '../core/errors.ts';
import { frozenPaths } from './manifest.ts';
import { TemplateStore } from './template-store.ts';

const KEY = templateKey('1');

class Place implements Disposable {
  readonly home = mkdtempSync(join(tmpdir(), 'bt-templates-'));
  readonly dir = join(this.home, 'templates');
  readonly store = new TemplateStore(this.dir);

  constructor() {
    mkdirSync(this.dir);
  }

  publish(key = KEY): Promise<string> {
    return publishTemplate(this.store, this.dir, key);
  }

  [Symbol.dispose](): void {
    rmSync(this.home, { recursive: true, force: true });
  }
}

test('a published template is found with what was written, and listed; a draft is not', async () => {
  using place = new Place();
  const { store } = place;
  assert.equal(await store.find(KEY), undefined);
  await using draft = await store.draft(KEY);
  const facts = await fillTemplate(draft.dir);
  await store.writeManifest(draft, facts);
  assert.equal(await store.find(KEY), undefined);
  assert.deepEqual(await store.list(), []);
  assert.equal(await draft.publish(), true);
  const found = await store.find(KEY);
  assert.deepEqual(found, {
    key: KEY,
    dir: join(place.dir, KEY),
    manifest: { manifestVersion: 1, kind: 'template', ...facts },
  });
  assert.deepEqual(await store.list(), [found]);
  assert.deepEqual(await store.keys(), [KEY]);
  assert.equal(statSync(found?.dir ?? '').mode & 0o777, 0o700);
});

test('a draft that is given up leaves nothing; one that comes second leaves the first', async () => {
  using place = new Place();
  {
    await using draft = await place.store.draft(KEY);
    await place.store.writeManifest(draft, await fillTemplate(draft.dir));
  }
  assert.deepEqual(readdirSync(place.dir), []);
  await using late = await place.store.draft(KEY);
  await place.store.writeManifest(late, await fillTemplate(late.dir, { vcpus: 7 }));
  await place.publish();
  assert.equal(await late.publish(), false);
  assert.equal((await place.store.find(KEY))?.manifest.vcpus, 2);
});

test('its use: blocks on the disk, and when; marking it follows no link', async () => {
  using place = new Place();
  const dir = await place.publish();
  const { allocatedBytes, usedAt } = await place.store.use(KEY);
  assert.ok(allocatedBytes > 0 && allocatedBytes < 1024 * 1024, `${allocatedBytes}: the memory is sparse`);
  utimesSync(join(dir, 'used'), 1000, 1000);
  assert.equal((await place.store.use(KEY)).usedAt, '1970-01-01T00:16:40.000Z');
  await place.store.markUsed(KEY);
  assert.ok((await place.store.use(KEY)).usedAt >= usedAt);
  const outside = join(place.home, 'outside');
  writeFileSync(outside, '');
  utimesSync(outside, 1000, 1000);
  rmSync(join(dir, 'used'));
  symlinkSync(outside, join(dir, 'used'));
  await place.store.markUsed(KEY);
  assert.equal(statSync(outside).mtimeMs, 1_000_000);
});

const DAMAGES: Readonly<Record<string, (dir: string, home: string) => void>> = {
  'a manifest that is not JSON': (dir) => writeFileSync(join(dir, 'manifest.json'), '{'),
  'a manifest with a field too many': (dir) => changeManifest(dir, (json) => ({ ...json, extra: 1 })),
  'a manifest of another version': (dir) => changeManifest(dir, (json) => ({ ...json, manifestVersion: 2 })),
  'a digest that is none': (dir) =>
    changeManifest(dir, (json) => ({ ...json, state: { sizeBytes: 7, sha256: '../../x' } })),
  'a manifest without end': (dir) => truncateSync(join(dir, 'manifest.json'), 300 * 1024),
  'a manifest that is a directory': (dir) => {
    rmSync(join(dir, 'manifest.json'));
    mkdirSync(join(dir, 'manifest.json'));
  },
  'no memory': (dir) => rmSync(frozenPaths(dir).memory),
  'a shorter memory': (dir) => truncateSync(frozenPaths(dir).memory, 4096),
  'a longer state': (dir) => writeFileSync(frozenPaths(dir).state, 'a state and more'),
  'no disk': (dir) => rmSync(frozenPaths(dir).rootDisk),
  'a memory that is a link': (dir, home) => {
    const { memory } = frozenPaths(dir);
    renameSync(memory, join(home, 'elsewhere'));
    symlinkSync(join(home, 'elsewhere'), memory);
  },
};

function changeManifest(dir: string, change: (json: object) => object): void {
  const path = join(dir, 'manifest.json');
  writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, 'utf8')) as object)));
}

for (const [what, damage] of Object.entries(DAMAGES)) {
  test(`damaged, and removed when it is looked for: ${what}`, async () => {
    using place = new Place();
    const dir = await place.publish();
    await place.publish(templateKey('2'));
    damage(dir, place.home);
    await assert.rejects(
      place.store.inspect(KEY),
      (error) => error instanceof BangerError && /^(io_error|limit_exceeded)$/.test(error.code),
    );
    assert.ok(existsSync(dir), 'an inspection changes nothing');
    assert.equal(await place.store.find(KEY), undefined);
    assert.ok(!existsSync(dir));
    assert.equal((await place.store.list()).length, 1, 'the other one is as it was');
  });
}

test('a link in the place of a template is removed, and what it leads to is left alone', async () => {
  using place = new Place();
  const outside = join(place.home, 'outside');
  renameSync(await place.publish(), outside);
  symlinkSync(outside, join(place.dir, KEY));
  assert.equal(await place.store.find(KEY), undefined);
  assert.deepEqual(readdirSync(place.dir), []);
  assert.deepEqual(readdirSync(outside).length, 5, 'also its manifest');
});

test('a key is 64 hex digits, also where one is removed', async () => {
  using place = new Place();
  for (const key of ['', '..', 'x'.repeat(64), `${KEY}/..`, KEY.toUpperCase().replace('1', 'A')]) {
    await assert.rejects(place.store.remove(key), /is no template's key/);
    await assert.rejects(place.store.find(key), /is no template's key/);
  }
});

test('leftovers: drafts of dead processes and what has no manifest; a draft of a living one is none', async () => {
  using place = new Place();
  await place.publish();
  await place.store.noteFailure({ at: '2026-01-01T00:00:00.000Z', key: KEY, image: 'i', reason: 'r' });
  await using living = await place.store.draft(templateKey('4'));
  assert.deepEqual(await place.store.leftovers(), []);
  const dead = join(place.dir, `.${KEY}.tmp-1-1-0123456789ab`);
  mkdirSync(dead);
  writeFileSync(join(dead, 'memory'), '');
  const half = join(place.dir, templateKey('5'));
  mkdirSync(half);
  writeFileSync(join(half, 'memory'), '');
  const leftovers = await place.store.leftovers();
  assert.deepEqual(
    new Map(leftovers.map(({ path, kind }) => [path, kind])),
    new Map([
      [dead, 'draft'],
      [half, 'remains'],
    ]),
  );
  for (const leftover of leftovers) await place.store.sweep(leftover);
  assert.deepEqual(await place.store.leftovers(), []);
  assert.ok(existsSync(living.dir));
  assert.notEqual(await place.store.find(KEY), undefined);
});

test('failures: kept in order, at most a hundred, none lost when several come at once, forgotten by key', async () => {
  using place = new Place();
  const failure = (key: string, reason: string) => ({
    ...{ at: '2026-01-01T00:00:00.000Z', key, image: 'i', reason },
  });
  assert.deepEqual(await place.store.failures(), []);
  await Promise.all(
    Array.from({ length: 120 }, (_, index) => place.store.noteFailure(failure(KEY, String(index)))),
  );
  await place.store.noteFailure(failure(templateKey('2'), 'other'));
  const failures = await place.store.failures();
  assert.equal(failures.length, 100);
  assert.deepEqual(
    failures.slice(0, 2).map(({ reason }) => reason),
    ['21', '22'],
  );
  await place.store.forgetFailures(KEY);
  assert.deepEqual(await place.store.failures(), [failure(templateKey('2'), 'other')]);
});

test('a damaged list of failures is an empty one, and the next failure is kept', async () => {
  using place = new Place();
  for (const text of ['{', '[1]', '[{"at":"x"}]', 'x'.repeat(2 * 1024 * 1024)]) {
    writeFileSync(join(place.dir, 'failures.json'), text);
    assert.deepEqual(await place.store.failures(), []);
  }
  await place.store.noteFailure({ at: '2026-01-01T00:00:00.000Z', key: KEY, image: 'i', reason: 'r' });
  assert.equal((await place.store.failures()).length, 1);
});
