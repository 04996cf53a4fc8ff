import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RamStreamSplitter } from './ram-stream.ts';
import { PAGE_BYTES } from './stream-bytes.ts';
import {
  block,
  configuration,
  DEVICES,
  eos,
  footer,
  header,
  migrationStream,
  page,
  type Record,
  section,
  u32,
  u64,
  zero,
} from '../../../test/helpers/migration-stream.ts';

const PAGES = 8;
const MEMORY = { name: 'memory', sizeBytes: PAGES * PAGE_BYTES };

interface Split {
  readonly state: Buffer;
  readonly memory: Buffer;
  readonly zeroed: readonly number[];
}

/** Splits a stream that comes in chunks; every write is looked at. */
function split(chunks: readonly Buffer[]): Split {
  const state: Buffer[] = [];
  const memory = Buffer.alloc(MEMORY.sizeBytes);
  const zeroed: number[] = [];
  const splitter = new RamStreamSplitter(MEMORY, {
    state: (chunk, start, end) => {
      assert(start <= end && end <= chunk.length);
      state.push(Buffer.from(chunk.subarray(start, end)));
    },
    memory: (position, chunk, start, end) => {
      assert(position >= 0 && start <= end && end <= chunk.length && position + end - start <= memory.length);
      chunk.copy(memory, position, start, end);
    },
    zeroPage: (position) => {
      assert(position % PAGE_BYTES === 0 && position >= 0 && position < memory.length);
      memory.fill(0, position, position + PAGE_BYTES);
      zeroed.push(position);
    },
  });
  for (const chunk of chunks) splitter.push(chunk);
  splitter.end();
  return { state: Buffer.concat(state), memory, zeroed };
}

const BLOCKS = [
  { name: 'memory', sizeBytes: MEMORY.sizeBytes },
  { name: 'rom', sizeBytes: 2 * PAGE_BYTES },
];

const record: fc.Arbitrary<Record> = fc.oneof(
  fc.record({
    block: fc.constant('memory'),
    at: fc.nat(PAGES - 1),
    fill: fc.nat(255),
    kind: fc.constantFrom('page', 'zero'),
  }),
  fc.record({
    block: fc.constant('rom'),
    at: fc.nat(1),
    fill: fc.nat(255),
    kind: fc.constantFrom('page', 'zero'),
  }),
);
const sections = fc.array(fc.array(record, { maxLength: 12 }), { minLength: 1, maxLength: 4 });

/** Cuts at these places, whatever is there. */
function chunksOf(stream: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  let at = 0;
  for (const size of sizes) {
    chunks.push(stream.subarray(at, at + size));
    at += size;
  }
  chunks.push(stream.subarray(at));
  return chunks;
}

const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 9000 })), {
  maxLength: 60,
});

test('memory comes out at its place, and all else as it was, wherever the stream is cut', () => {
  fc.assert(
    fc.property(sections, cuts, (given, sizes) => {
      const memory = Buffer.alloc(MEMORY.sizeBytes);
      for (const { block: name, at, fill, kind } of given.flat()) {
        if (name === 'memory')
          memory.fill(kind === 'page' ? fill : 0, at * PAGE_BYTES, (at + 1) * PAGE_BYTES);
      }
      const result = split(chunksOf(migrationStream(BLOCKS, given), sizes));
      assert(result.memory.equals(memory));
      const without = given.map((records) => records.filter(({ block: name }) => name !== 'memory'));
      assert(result.state.equals(migrationStream(BLOCKS, without, given)));
    }),
  );
});

test('byte by byte it is the same', () => {
  const stream = migrationStream(BLOCKS, [
    [
      { block: 'rom', at: 1, fill: 7, kind: 'page' },
      { block: 'memory', at: 7, fill: 9, kind: 'page' },
    ],
  ]);
  const whole = split([stream]);
  assert.deepEqual(split(Array.from(stream, (byte) => Buffer.of(byte))), whole);
  assert.equal(whole.memory[7 * PAGE_BYTES], 9);
});

test('a stream that ends before its devices is refused, wherever that is', () => {
  const stream = migrationStream(BLOCKS, [[{ block: 'memory', at: 0, fill: 1, kind: 'page' }]]);
  const memoryEnds = stream.length - DEVICES.length;
  for (let length = 0; length <= memoryEnds; length++) {
    assert.throws(() => split([stream.subarray(0, length)]), { code: 'vmm_failed' }, String(length));
  }
  assert.doesNotThrow(() => split([stream.subarray(0, memoryEnds + 1)]));
});

test('a damaged stream is split or refused, and nothing is written beyond the memory', () => {
  const stream = migrationStream(BLOCKS, [
    [
      { block: 'memory', at: 0, fill: 1, kind: 'page' },
      { block: 'memory', at: 1, fill: 1, kind: 'zero' },
      { block: 'rom', at: 0, fill: 1, kind: 'page' },
      { block: 'memory', at: 7, fill: 1, kind: 'page' },
    ],
    [{ block: 'memory', at: 6, fill: 0, kind: 'zero' }],
  ]);
  const damage = fc.array(fc.tuple(fc.nat(stream.length - 1), fc.integer({ min: 1, max: 255 })), {
    minLength: 1,
    maxLength: 3,
  });
  fc.assert(
    fc.property(damage, cuts, (flips, sizes) => {
      const damaged = Buffer.from(stream);
      for (const [at, bits] of flips) damaged[at] = (damaged[at] ?? 0) ^ bits;
      try {
        split(chunksOf(damaged, sizes));
      } catch (error) {
        assert.match(String((error as { code?: string }).code), /^(vmm_failed|unsupported)$/, String(error));
      }
    }),
    { numRuns: 500 },
  );
});

test('what is not known of the format is refused by name', () => {
  const list = (entries: readonly Buffer[], total: number) => section(1, u64(total + 4), ...entries, eos());
  const good = list([block('memory', MEMORY.sizeBytes)], MEMORY.sizeBytes);
  const start = [header(), configuration()];
  const beyond = 2 ** 20 * PAGE_BYTES;
  const cases: readonly (readonly [readonly Buffer[], RegExp])[] = [
    [[Buffer.from('a screenshot')], /no migration stream/],
    [[u32(0x5145564d), u32(2)], /unknown kind: version 2/],
    [[header(), configuration('configuration/uuid')], /subsection "configuration\/uuid"/],
    [[header(), configuration(undefined, 'multifd')], /capability "multifd"/],
    [[...start, section(1, u64(0x10))], /first record 16/],
    [[...start, list([block('memory', 4096)], 4096)], /size of the memory 4096/],
    [[...start, list([block('other', 4096)], 4096)], /no block "memory"/],
    [[...start, list([block('memory', MEMORY.sizeBytes)], 4096)], /block "memory" has 32768 bytes/],
    [[...start, list([block('a', 4096), block('a', 4096)], beyond)], /twice, or too many/],
    [[...start, list(manyBlocks(65), beyond)], /twice, or too many/],
    [[...start, good, section(2, page('memory', 0, 1, 0x40))], /flags of a page 72/],
    [[...start, good, section(2, u64(0x100))], /flags of a page 256/],
    [[...start, good, section(2, page('memory', PAGES, 1))], /nowhere/],
    [[...start, good, section(2, page('memory', 2 ** 41, 1))], /nowhere/],
    [[...start, good, section(2, page('other', 0, 1))], /nowhere/],
    [[...start, good, section(2, u64(0x28), Buffer.alloc(PAGE_BYTES))], /nowhere/],
    [[...start, good, section(2, zero('memory', 0, 1))], /fills a page 1/],
    [[...start, good, section(2, eos(), Buffer.of(0x7d), u32(2))], /footer 125/],
    [[...start, good, section(2, eos(), footer(3))], /section of a footer 3/],
    [[...start, good, section(8, eos())], /section 8/],
    [[...start, good, section(3, eos()), footer(), Buffer.of(2)], /section 2/],
  ];
  for (const [stream, message] of cases) assert.throws(() => split(stream), message, String(message));
});

function manyBlocks(count: number): readonly Buffer[] {
  return Array.from({ length: count }, (_, index) => block(`b${index}`, PAGE_BYTES));
}
