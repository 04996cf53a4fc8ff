import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { MAX_CHUNK_BYTES, MemoryWriter } from './memory-writer.ts';
import { PAGE_BYTES } from './stream-bytes.ts';

const dir = await mkdtemp(join(tmpdir(), 'memory-'));
after(() => rm(dir, { recursive: true }));
const path = join(dir, 'memory');

test('the last of a page counts, be it data or zero, in whatever order and size it comes', async () => {
  const pages = 700;
  const step = fc.oneof(
    fc.record({
      page: fc.nat(pages - 16),
      pages: fc.integer({ min: 1, max: 16 }),
      fill: fc.integer({ min: 1, max: 255 }),
    }),
    fc.record({ page: fc.nat(pages - 300), pages: fc.integer({ min: 1, max: 300 }), fill: fc.constant(0) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
      const memory = Buffer.alloc(pages * PAGE_BYTES);
      await using file = await open(path, 'w+');
      await file.truncate(memory.length);
      const writer = new MemoryWriter(file, memory.length);
      for (const { page, pages: count, fill } of steps) {
        memory.fill(fill, page * PAGE_BYTES, (page + count) * PAGE_BYTES);
        for (let at = page * PAGE_BYTES; at < (page + count) * PAGE_BYTES; at += PAGE_BYTES) {
          if (fill === 0) {
            writer.zeroPage(at);
            continue;
          }
          // In two parts, as a page comes that the end of a chunk cuts.
          const chunk = Buffer.alloc(PAGE_BYTES + 1, fill);
          writer.write(at, chunk, 1, 100);
          writer.write(at + 99, chunk, 100, chunk.length);
        }
        await writer.settle();
      }
      await writer.finish();
      assert((await readFile(path)).equals(memory));
    }),
    { numRuns: 40 },
  );
});

test('what was never written stays a hole', async () => {
  const sizeBytes = 64 * 1024 ** 2;
  await using file = await open(path, 'w+');
  await file.truncate(sizeBytes);
  const writer = new MemoryWriter(file, sizeBytes);
  for (let at = 0; at < sizeBytes; at += PAGE_BYTES) writer.zeroPage(at);
  writer.write(sizeBytes - PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 1), 0, PAGE_BYTES);
  await writer.finish();
  const { size, blocks } = await stat(path);
  assert.equal(size, sizeBytes);
  assert(blocks * 512 < 1024 ** 2, `${blocks} blocks`);
});

test('a write that fails is heard of at the latest in the end, and nothing goes on behind it', async () => {
  // Not open for writing.
  await using file = await open(path, 'r');
  const writer = new MemoryWriter(file, 4 * 1024 ** 2);
  const chunk = Buffer.alloc(MAX_CHUNK_BYTES, 1);
  writer.write(0, chunk, 0, chunk.length);
  await assert.rejects(writer.finish(), { code: 'EBADF' });
  await writer.idle();

  const early = new MemoryWriter(file, 4 * 1024 ** 2);
  const all = async (): Promise<void> => {
    for (let at = 0; at < 64; at++) {
      early.write(at * chunk.length, chunk, 0, chunk.length);
      await early.settle();
    }
  };
  await assert.rejects(all(), { code: 'EBADF' });
  await early.idle();
});
