import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from '../core/errors.ts';
import { createRunner } from '../host/runner.ts';
import { unpackDeb } from './deb.ts';

const runner = createRunner();
const signal = new AbortController().signal;
let dir = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'banger-deb-'));
  await mkdir(join(dir, 'package', 'DEBIAN'), { recursive: true });
  await mkdir(join(dir, 'package', 'boot'));
  const control =
    'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: x\n';
  await writeFile(join(dir, 'package', 'DEBIAN', 'control'), control);
  await writeFile(join(dir, 'package', 'boot', 'vmlinuz'), 'kernel'.repeat(1000));
  await writeFile(join(dir, 'package', 'other'), 'not wanted');
});
after(() => rm(dir, { recursive: true }));

async function build(compression: string): Promise<string> {
  const path = join(dir, `${compression}.deb`);
  await runner.run([
    'dpkg-deb',
    '--root-owner-group',
    `-Z${compression}`,
    '--build',
    join(dir, 'package'),
    path,
  ]);
  return path;
}

let targets = 0;
async function unpack(debPath: string): Promise<string> {
  const targetDir = join(dir, `target-${targets++}`);
  await mkdir(targetDir);
  await unpackDeb({ debPath, targetDir, wanted: (name) => name.startsWith('boot/'), runner, signal });
  return targetDir;
}

test('unpacks what was asked for and nothing else, in every compression dpkg uses', async () => {
  for (const compression of ['none', 'gzip', 'xz', 'zstd']) {
    const target = await unpack(await build(compression));
    assert.deepEqual(await readdir(target), ['boot'], compression);
    assert.equal(await readFile(join(target, 'boot', 'vmlinuz'), 'utf8'), 'kernel'.repeat(1000));
  }
});

test('a package that is damaged or cut off is refused as such', async () => {
  const good = await readFile(await build('none'));
  await fc.assert(
    fc.asyncProperty(fc.nat(good.length - 1), fc.nat(200), fc.nat(255), async (length, at, value) => {
      const bytes = Buffer.from(good.subarray(0, length));
      if (at < bytes.length) bytes[at] = value;
      const path = join(dir, 'damaged.deb');
      await writeFile(path, bytes);
      try {
        await unpack(path);
      } catch (error) {
        assert(error instanceof BangerError && error.code === 'bad_request', String(error));
      }
    }),
    { numRuns: 100 },
  );
});
