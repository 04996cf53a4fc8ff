import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ArchiveDecoder, ArchiveError } from './decode.ts';
import { encodeArchive, encodeRecord } from './encode.ts';
import { type ArchiveRecord, isArchivePath } from './records.ts';

const LIMITS = { maxRecords: 1000, maxDataBytes: 10_000_000 };
const NONE = Buffer.alloc(0);

const name = fc
  .uint8Array({ minLength: 1, maxLength: 20 })
  .map((bytes) =>
    Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f || byte === 0x2e ? 0x61 : byte))),
  );
const path = fc
  .array(name, { minLength: 1, maxLength: 5 })
  .map((names) =>
    Buffer.concat(names.flatMap((part, index) => (index === 0 ? [part] : [Buffer.from('/'), part]))),
  );
const mode = fc.integer({ min: 0, max: 0o7777 });
const mtimeNs = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });

/** A file with its data: gaps and bytes in turn. */
const file: fc.Arbitrary<ArchiveRecord[]> = fc
  .record({
    path,
    mode,
    mtimeNs,
    parts: fc.array(fc.tuple(fc.nat(100_000), fc.uint8Array({ minLength: 1, maxLength: 40_000 })), {
      maxLength: 4,
    }),
    rest: fc.nat(1000),
    slack: fc.nat(1000),
  })
  .map(({ path: at, mode: bits, mtimeNs: time, parts, rest, slack }) => {
    let end = 0;
    const data = parts.map(([gap, bytes]): ArchiveRecord => {
      const offset = end + gap;
      end = offset + bytes.length;
      return { kind: 'data', offset, bytes };
    });
    return [
      { kind: 'file', path: at, mode: bits, mtimeNs: time, sizeBytes: end + rest + slack },
      ...data,
      { kind: 'fileEnd', sizeBytes: end + rest },
    ];
  });

const archive = fc
  .array(
    fc.oneof(
      file,
      fc.record({ path, mode, mtimeNs }).map((fields): ArchiveRecord[] => [{ kind: 'directory', ...fields }]),
      fc
        .record({ path, target: name, mtimeNs })
        .map((fields): ArchiveRecord[] => [{ kind: 'symlink', ...fields }]),
    ),
    { maxLength: 10 },
  )
  .map((records) => records.flat());

async function encoded(records: readonly ArchiveRecord[]): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeArchive(records)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** The records in a buffer that comes in pieces; data that was cut is joined again. */
function decoded(bytes: Uint8Array, pieceBytes: number, limits = LIMITS): ArchiveRecord[] {
  const decoder = new ArchiveDecoder(limits);
  const records: ArchiveRecord[] = [];
  for (let from = 0; from < bytes.length; from += pieceBytes) {
    for (const record of decoder.push(bytes.subarray(from, from + pieceBytes))) join(records, record);
  }
  decoder.finish();
  return records;
}

function join(records: ArchiveRecord[], record: ArchiveRecord): void {
  const last = records.at(-1);
  const follows =
    last?.kind === 'data' && record.kind === 'data' && last.offset + last.bytes.length === record.offset;
  if (!follows) records.push(record);
  else records.splice(-1, 1, { ...last, bytes: Buffer.concat([last.bytes, record.bytes]) });
}

/** As `decoded` joins them: where there is no gap, two segments are one. */
function normal(records: readonly ArchiveRecord[]): ArchiveRecord[] {
  const joined: ArchiveRecord[] = [];
  for (const record of records)
    join(joined, record.kind === 'data' ? { ...record, bytes: Buffer.from(record.bytes) } : record);
  return joined;
}

test('what was encoded is what is decoded, however it is cut', async () => {
  await fc.assert(
    fc.asyncProperty(archive, fc.integer({ min: 1, max: 100_000 }), async (records, pieceBytes) => {
      const bytes = await encoded(records);
      assert.deepEqual(normal(decoded(bytes, pieceBytes)), normal(records));
    }),
  );
});

test('an archive that is cut short is never taken for a whole one', async () => {
  await fc.assert(
    fc.asyncProperty(
      archive,
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      async (records, share) => {
        const bytes = await encoded(records);
        const cut = bytes.subarray(0, Math.floor(bytes.length * share));
        assert.throws(() => decoded(cut, 1000), ArchiveError);
      },
    ),
  );
});

test('any bytes are records or an error, and no path leads elsewhere', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(10), (bytes, kind) => {
      const decoder = new ArchiveDecoder(LIMITS);
      try {
        for (const record of decoder.push(Buffer.concat([Uint8Array.of(kind), bytes]))) {
          if ('path' in record) assert(isArchivePath(record.path));
          if (record.kind === 'symlink') assert(record.target.length > 0);
        }
      } catch (error) {
        assert(error instanceof ArchiveError, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

test('paths that lead elsewhere are none', () => {
  for (const good of ['a', 'a/b', '...', '.a', 'a/..b', 'new\nline'])
    assert(isArchivePath(Buffer.from(good)), good);
  const bad = [
    '',
    '/',
    '/a',
    'a/',
    'a//b',
    '.',
    '..',
    'a/..',
    '../a',
    'a/./b',
    'a\0b',
    'x'.repeat(256),
    'a/'.repeat(256) + 'a',
  ];
  for (const path of bad) assert(!isArchivePath(Buffer.from(path)), path);
  assert.throws(
    () => encodeRecord({ kind: 'delete', path: Buffer.from('../x'), deleteEmptyParents: false }),
    {
      code: 'ERR_ASSERTION',
    },
  );
});

test('limits on entries and bytes hold, and nothing follows the end', async () => {
  const directory: ArchiveRecord = { kind: 'directory', path: Buffer.from('d'), mode: 0, mtimeNs: 0n };
  const twice = await encoded([directory, directory]);
  assert.throws(() => decoded(twice, 100, { maxRecords: 1, maxDataBytes: 0 }), /too many entries/);
  const records: ArchiveRecord[] = [
    { kind: 'file', path: Buffer.from('f'), mode: 0, mtimeNs: 0n, sizeBytes: 2 ** 40 },
    { kind: 'data', offset: 2 ** 39, bytes: Buffer.alloc(100) },
    { kind: 'fileEnd', sizeBytes: 2 ** 40 },
  ];
  assert.throws(() => decoded(Buffer.concat([twice, NONE, Uint8Array.of(0)]), 1000), /follow the end/);
  const bytes = await encoded(records);
  assert.throws(() => decoded(bytes, 1000, { maxRecords: 1, maxDataBytes: 99 }), /too many bytes/);
  assert.equal(decoded(bytes, 1000, { maxRecords: 1, maxDataBytes: 100 }).length, 3);
});

test('segments stay in their file, in order', async () => {
  const file: ArchiveRecord = { kind: 'file', path: Buffer.from('f'), mode: 0, mtimeNs: 0n, sizeBytes: 10 };
  const overlapping: ArchiveRecord[] = [
    file,
    { kind: 'data', offset: 2, bytes: Buffer.alloc(4) },
    { kind: 'data', offset: 5, bytes: Buffer.alloc(1) },
    { kind: 'fileEnd', sizeBytes: 10 },
  ];
  const outside: ArchiveRecord[] = [
    file,
    { kind: 'data', offset: 8, bytes: Buffer.alloc(3) },
    { kind: 'fileEnd', sizeBytes: 10 },
  ];
  const longer: ArchiveRecord[] = [file, { kind: 'fileEnd', sizeBytes: 11 }];
  for (const records of [overlapping, outside, longer]) {
    const bytes = await encoded(records);
    assert.throws(() => decoded(bytes, 100), /does not fit/);
  }
});
