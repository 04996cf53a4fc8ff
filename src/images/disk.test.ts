import assert from 'node:assert/strict';
import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { createRunner } from '../host/runner.ts';
import { copyDisk, copyRootDisk, createOverlay, createRootDisk } from './disk.ts';
import { MAX_OVERLAY_BYTES } from './qcow2.ts';

const runner = createRunner();
const MIB = 1024 ** 2;
/** Too much to copy in one step. */
const LARGE_BYTES = 65 * MIB;
let dir = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'banger-disk-'));
});
after(() => rm(dir, { recursive: true }));

async function base(name: string, sizeBytes: number): Promise<string> {
  const path = join(dir, name);
  await using file = await open(path, 'w');
  await file.truncate(sizeBytes);
  await file.write(Buffer.from('the base image'), 0, 14, 0);
  return path;
}

async function info(path: string): Promise<Record<string, unknown>> {
  const { stdout } = await runner.run(['qemu-img', 'info', '--output=json', path]);
  return JSON.parse(stdout.toString('utf8')) as Record<string, unknown>;
}

test('qemu-img finds no fault in an overlay of any size, and sees size and base', async () => {
  const basePath = await base('base.raw', MIB);
  const interesting = [1, 511, 512, 513, 4096, 8192].map((units) => units * 512 * MIB);
  const sizes = fc.oneof(
    fc.constantFrom(...interesting.filter((size) => size <= MAX_OVERLAY_BYTES), MAX_OVERLAY_BYTES, MIB),
    fc.integer({ min: MIB / 512, max: MAX_OVERLAY_BYTES / 512 }).map((sectors) => sectors * 512),
  );
  let count = 0;
  await fc.assert(
    fc.asyncProperty(sizes, async (sizeBytes) => {
      const overlayPath = join(dir, `overlay-${count++}.qcow2`);
      await createOverlay({ basePath, baseFormat: 'raw', overlayPath, sizeBytes });
      await runner.run(['qemu-img', 'check', overlayPath]);
      const seen = await info(overlayPath);
      assert.equal(seen['virtual-size'], sizeBytes);
      assert.equal(seen['backing-filename'], basePath);
      assert.equal(seen['backing-filename-format'], 'raw');
      assert((await stat(overlayPath)).blocks * 512 <= 64 * 1024, 'an empty overlay takes next to no space');
    }),
    { numRuns: 20 },
  );
});

test('reads the base through the overlay and takes writes without touching the base', async () => {
  const basePath = await base('base2.raw', MIB);
  const overlayPath = join(dir, 'rw.qcow2');
  await createOverlay({ basePath, baseFormat: 'raw', overlayPath, sizeBytes: 2 * 1024 * MIB });
  const io = (...commands: string[]) =>
    runner.run(['qemu-io', '-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), overlayPath]);
  const before = await io('read -v 0 16');
  assert.match(before.stdout.toString('latin1'), /the\.base\.image/);
  await io('write -P 0x5a 0 64k', 'write -P 0xa5 1600M 1M', 'flush');
  const after = await io('read -P 0x5a 0 64k', 'read -P 0xa5 1600M 1M', 'read -P 0 1M 1M');
  assert.doesNotMatch(after.stdout.toString('latin1'), /verification failed/);
  await runner.run(['qemu-img', 'check', overlayPath]);
  await using file = await open(basePath, 'r');
  const { buffer } = await file.read(Buffer.alloc(14), 0, 14, 0);
  assert.equal(buffer.toString('latin1'), 'the base image');
});

test('an overlay over a qcow2 base works too', async () => {
  const first = join(dir, 'first.qcow2');
  await createOverlay({
    basePath: await base('b3.raw', MIB),
    baseFormat: 'raw',
    overlayPath: first,
    sizeBytes: 4 * MIB,
  });
  const second = join(dir, 'second.qcow2');
  await createOverlay({ basePath: first, baseFormat: 'qcow2', overlayPath: second, sizeBytes: 8 * MIB });
  assert.equal((await info(second))['backing-filename-format'], 'qcow2');
  await assert.rejects(
    createOverlay({ basePath: first, baseFormat: 'qcow2', overlayPath: join(dir, 'x'), sizeBytes: 2 * MIB }),
    { code: 'bad_request' },
  );
});

test('refuses a disk smaller than its base and names the minimum', async () => {
  const basePath = await base('large.raw', 8 * MIB + 1);
  const overlayPath = join(dir, 'small.qcow2');
  const promise = createOverlay({ basePath, baseFormat: 'raw', overlayPath, sizeBytes: 8 * MIB });
  await assert.rejects(promise, { code: 'bad_request', message: /at least 9 MiB/, hint: /9MiB/ });
  await assert.rejects(stat(overlayPath), { code: 'ENOENT' });
});

test('refuses absurd sizes, a missing base and an existing overlay', async () => {
  const basePath = await base('b4.raw', MIB);
  const overlayPath = join(dir, 'b4.qcow2');
  const create = (sizeBytes: number, from = basePath) =>
    createOverlay({ basePath: from, baseFormat: 'raw', overlayPath, sizeBytes });
  for (const size of [0, -512, 1.5, Number.NaN, MIB + 1, MAX_OVERLAY_BYTES + 512]) {
    await assert.rejects(create(size), { code: 'bad_request' }, String(size));
  }
  await assert.rejects(create(MIB, join(dir, 'nothing')), { code: 'not_found' });
  await create(MIB);
  await assert.rejects(create(MIB), { code: 'already_exists' });
});

test('a copy of a disk is the same, small or large; its holes are holes; there is never a half', async () => {
  for (const sizeBytes of [0, 1, 100_001, LARGE_BYTES + 100_001]) {
    const from = join(dir, `from-${sizeBytes}`);
    const to = join(dir, `to-${sizeBytes}`);
    {
      await using file = await open(from, 'w');
      await file.truncate(sizeBytes);
      if (sizeBytes > 0) await file.write(Buffer.from('the end'), 0, 1, sizeBytes - 1);
    }
    await copyDisk(from, to);
    await runner.run(['cmp', from, to]);
    assert.deepEqual([(await stat(to)).size, (await stat(to)).mode & 0o777], [sizeBytes, 0o600]);
    assert.ok((await stat(to)).blocks * 512 <= MIB, 'it has no holes');
    await assert.rejects(copyDisk(from, to), { code: 'io_error', message: /: file exists$/ });
    assert.equal((await stat(to)).size, sizeBytes, 'what was there is there');
  }
  await assert.rejects(copyDisk(join(dir, 'nothing'), join(dir, 'to')), { code: 'io_error' });
});

test('a copy that is given up leaves nothing', async () => {
  const from = join(dir, 'large');
  // Not holes: those would be copied in no time.
  await runner.run(['fallocate', '-l', String(LARGE_BYTES * 16), from]);
  const abort = new AbortController();
  const to = join(dir, 'given-up');
  const copying = copyDisk(from, to, abort.signal);
  const made = async (): Promise<boolean> =>
    await stat(to).then(
      () => true,
      () => false,
    );
  while (!(await made())) await new Promise((resolve) => setImmediate(resolve));
  abort.abort();
  await assert.rejects(copying, { code: 'cancelled' });
  assert.ok(!(await made()));
  await assert.rejects(copyDisk(from, to, abort.signal), { code: 'cancelled' });
});

test('a raw root disk is a copy of the image, as large as asked for; an overlay is made where the format says so', async () => {
  const basePath = await base('root.raw', LARGE_BYTES + MIB);
  const make = (
    path: string,
    format: 'raw' | 'qcow2',
    sizeBytes: number,
    baseFormat: 'raw' | 'qcow2' = 'raw',
  ) =>
    createRootDisk({ basePath, baseFormat, path, format, sizeBytes, signal: new AbortController().signal });
  const path = join(dir, 'root-of-vm');
  await make(path, 'raw', LARGE_BYTES + 2 * MIB);
  assert.equal((await stat(path)).size, LARGE_BYTES + 2 * MIB);
  await runner.run(['cmp', '-n', String(LARGE_BYTES + MIB), basePath, path]);
  await assert.rejects(make(join(dir, 'small'), 'raw', LARGE_BYTES), { code: 'bad_request' });
  await assert.rejects(make(join(dir, 'other'), 'raw', LARGE_BYTES * 2, 'qcow2'), { code: 'unsupported' });
  const overlay = join(dir, 'root-overlay');
  await make(overlay, 'qcow2', LARGE_BYTES * 2);
  assert.ok((await stat(overlay)).size < MIB);

  const signal = new AbortController().signal;
  for (const [format, sizeBytes] of [
    ['raw', LARGE_BYTES * 2],
    ['qcow2', (await stat(overlay)).size],
  ] as const) {
    const copy = join(dir, `copy-${format}`);
    await copyRootDisk(format === 'raw' ? path : overlay, copy, {
      format,
      sizeBytes: LARGE_BYTES * 2,
      signal,
    });
    assert.equal((await stat(copy)).size, sizeBytes, format);
  }
});
