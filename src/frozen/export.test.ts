import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
  closeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { constants, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { BangerError } from '../core/errors.ts';
import type { VmSpec } from '../core/model/vm.ts';
import { createRunner } from '../host/runner.ts';
import { dataExtents, openFilePath, sparseFacts } from '../host/sparse-digest.ts';
import { EXTENT_HEADER_BYTES, type ExportHeader, MAX_EXTENT_BYTES, PREAMBLE_BYTES } from './export-format.ts';
import { ExportReader } from './export-reader.ts';
import { type FileToExport, writeExport } from './export-writer.ts';

const MIB = 1024 ** 2;
const BLOCK = 64 * 1024;
const NEVER = new AbortController().signal;
const runner = createRunner();
const dir = mkdtempSync(join(tmpdir(), 'export-'));
after(() => rmSync(dir, { recursive: true }));
let made = 0;

type Content = readonly { readonly offset: number; readonly length: number; readonly byte: number }[];
interface Sparse {
  readonly sizeBytes: number;
  readonly content: Content;
}

function sparseFile({ sizeBytes, content }: Sparse): string {
  made += 1;
  const path = join(dir, `file-${made}`);
  const descriptor = openSync(path, 'w');
  for (const { offset, length, byte } of content)
    writeSync(descriptor, Buffer.alloc(length, byte), 0, length, offset);
  closeSync(descriptor);
  truncateSync(path, sizeBytes);
  return path;
}

async function toExport(name: string, path: string, handles: AsyncDisposableStack): Promise<FileToExport> {
  const file = handles.use(await open(path, 'r'));
  const extents = await dataExtents(openFilePath(file), runner, NEVER);
  return { file, extents, facts: { name, ...(await sparseFacts(file, extents, NEVER)) } };
}

const digest = '0'.repeat(64);
const spec: VmSpec = {
  imageName: 'debian',
  vcpus: 1,
  memoryMib: 8,
  diskSizeBytes: 1024 ** 3,
  nat: false,
  init: 'agent',
  accel: 'auto',
  driver: 'qemu',
  ephemeral: false,
  publish: [],
};

/** Of these files, as root disk, transfer disk and, when there are four, state and memory. */
function manifestOf(files: readonly FileToExport[]): ExportHeader['manifest'] {
  const [root, transfer, state, memory] = files.map(({ facts }) => facts);
  assert.ok(root !== undefined && transfer !== undefined);
  const rootDisk = { sizeBytes: root.sizeBytes, sparseSha256: root.sparseSha256 };
  return {
    ...{ kind: 'snapshot', manifestVersion: 1, id: 'a'.repeat(32), name: 'dev-1', imported: false },
    ...{
      createdAt: '2026-01-02T03:04:05.000Z',
      shape: { machine: 'q35' },
      machine: 'q35',
      accelerator: 'tcg',
    },
    ...{ kernel: { name: 'debian', sha256: digest }, initramfsSha256: digest },
    image: { name: 'debian', rootfsSha256: digest },
    ...{ vcpus: 1, memoryMib: 8, rootDiskBytes: 1024 ** 3, rootDisk },
    transferDisk: { sizeBytes: transfer.sizeBytes, sparseSha256: transfer.sparseSha256 },
    vm: { id: 'b'.repeat(32), name: 'dev', spec, workspace: null },
    memory: memory === undefined ? null : { sizeBytes: memory.sizeBytes, sparseSha256: memory.sparseSha256 },
    state: state === undefined ? null : { sizeBytes: state.sizeBytes, sha256: digest },
  };
}

async function exported(
  contents: readonly Sparse[],
  change = (manifest: ExportHeader['manifest']) => manifest,
) {
  await using handles = new AsyncDisposableStack();
  const names = ['root.qcow2', 'transfer.img', 'state', 'memory'];
  const paths = contents.map((content) => sparseFile(content));
  const files: FileToExport[] = [];
  for (const [index, path] of paths.entries()) files.push(await toExport(names[index] ?? '', path, handles));
  const chunks: Uint8Array[] = [];
  const write = async (bytes: Uint8Array): Promise<void> => {
    chunks.push(Uint8Array.from(bytes));
  };
  const work = { signal: NEVER, onData: () => undefined };
  const length = await writeExport({ write }, change(manifestOf(files)), files, work);
  const bytes = Buffer.concat(chunks);
  assert.equal(bytes.length, length);
  return { bytes, paths };
}

async function* inChunks(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array, void, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Paths of the files that came out. */
async function imported(bytes: Uint8Array, chunk = 100_000): Promise<readonly string[]> {
  const reader = new ExportReader(inChunks(bytes, chunk));
  const { files } = await reader.header();
  const paths: string[] = [];
  for (const facts of files) {
    made += 1;
    const path = join(dir, `file-${made}`);
    paths.push(path);
    await using target = await open(path, 'wx', 0o600);
    await reader.file(facts, target, () => undefined);
  }
  await reader.end();
  return paths;
}

const DISK_ONLY: readonly Sparse[] = [
  { sizeBytes: 5 * BLOCK, content: [{ offset: BLOCK, length: 2 * BLOCK, byte: 3 }] },
  { sizeBytes: 64 * 1024 ** 3, content: [{ offset: 40 * 1024 ** 3, length: 10, byte: 4 }] },
];

const WITH_MEMORY: readonly Sparse[] = [
  ...DISK_ONLY,
  { sizeBytes: 1000, content: [{ offset: 0, length: 1000, byte: 5 }] },
  { sizeBytes: 8 * MIB, content: [{ offset: MIB, length: 3 * MIB, byte: 6 }] },
];

const sparse = fc
  .record({
    sizeBytes: fc.integer({ min: 1, max: 6 * MIB }),
    wanted: fc.array(
      fc.record({
        at: fc.double({ min: 0, max: 0.999, noNaN: true }),
        length: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 3 * MIB })),
        // Zeros that are written are no hole.
        byte: fc.integer({ min: 0, max: 3 }),
      }),
      { maxLength: 6 },
    ),
  })
  .map(({ sizeBytes, wanted }) => ({
    sizeBytes,
    content: wanted.map(({ at, length, byte }) => {
      const offset = Math.floor(at * sizeBytes);
      return { offset, length: Math.min(length, sizeBytes - offset), byte };
    }),
  }));

test('any sparse files come out as they went in, however the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(sparse, sparse, fc.integer({ min: 1, max: 300_000 }), async (root, transfer, chunk) => {
      const { bytes, paths } = await exported([root, transfer]);
      const out = await imported(bytes, Math.max(chunk, Math.ceil(bytes.length / 2000)));
      for (const [index, path] of out.entries())
        assert.ok(readFileSync(path).equals(readFileSync(paths[index] ?? '')), `file ${index}`);
      for (const path of [...out, ...paths]) rmSync(path);
    }),
    { numRuns: 40 },
  );
});

test('64 GiB of holes cost nothing to write or to read, and stay holes', async () => {
  const { bytes } = await exported(WITH_MEMORY);
  assert.ok(bytes.length < 16_384, `${bytes.length} bytes`);
  const [, transfer, , memory] = await imported(bytes);
  const { size, blocks } = statSync(transfer ?? '');
  assert.deepEqual([size, blocks * 512 <= BLOCK], [64 * 1024 ** 3, true]);
  assert.equal(statSync(memory ?? '').blocks * 512, 3 * MIB);
});

test('the same content gives the same bytes, wherever its holes are', async () => {
  const content = [{ offset: 3 * BLOCK, length: 3 * MIB, byte: 1 }];
  const zeros = { offset: 0, length: BLOCK, byte: 0 };
  const [holes, written] = [content, [zeros, ...content]].map((one) => [
    { sizeBytes: 4 * MIB, content: one },
    ...DISK_ONLY.slice(1),
  ]);
  const [a, b] = [await exported(holes ?? []), await exported(written ?? [])];
  assert.ok(a.bytes.equals(b.bytes));
});

test('a file that changes while it is exported is no export', async () => {
  await using handles = new AsyncDisposableStack();
  const files = await Promise.all(
    DISK_ONLY.map((content, index) => toExport(`${index}`, sparseFile(content), handles)),
  );
  const [first, second] = files;
  assert.ok(first !== undefined && second !== undefined);
  const changed = { ...first, facts: { ...first.facts, sparseSha256: digest } };
  const work = { signal: NEVER, onData: () => undefined };
  await assert.rejects(
    writeExport({ write: async () => undefined }, manifestOf(files), [changed, second], work),
    {
      code: 'verify_failed',
    },
  );
});

describe('hostile files', () => {
  const isRefusal = (error: unknown): boolean =>
    error instanceof BangerError && error.code === 'verify_failed';
  /** A bare file of these parts, with digests that are right. */
  const forged = (
    header: unknown,
    ...extents: readonly (readonly [offset: number, length: number, stored: Buffer])[]
  ): Buffer => {
    const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
    const preamble = Buffer.alloc(PREAMBLE_BYTES);
    preamble.write('BANGERSN', 'latin1');
    preamble.writeUInt32LE(1, 8);
    preamble.writeUInt32LE(json.length, 12);
    createHash('sha256').update(json).digest().copy(preamble, 16);
    const parts = extents.map(([offset, length, stored]) => {
      const head = Buffer.alloc(EXTENT_HEADER_BYTES);
      head.writeBigUInt64LE(BigInt(offset), 0);
      head.writeUInt32LE(length, 8);
      head.writeUInt32LE(stored.length, 12);
      return Buffer.concat([head, stored]);
    });
    const all = Buffer.concat([preamble, json, ...parts]);
    return Buffer.concat([all, createHash('sha256').update(all).digest()]);
  };
  const headerOf = (bytes: Buffer): ExportHeader =>
    JSON.parse(
      bytes.subarray(PREAMBLE_BYTES, PREAMBLE_BYTES + bytes.readUInt32LE(12)).toString(),
    ) as ExportHeader;

  test('cut off at any place', async () => {
    const { bytes } = await exported(DISK_ONLY);
    for (let length = 0; length < bytes.length; length++)
      await assert.rejects(imported(bytes.subarray(0, length)), isRefusal, `${length} bytes`);
    await imported(bytes);
  });

  test('with something behind its end', async () => {
    const { bytes } = await exported(DISK_ONLY);
    await assert.rejects(imported(Buffer.concat([bytes, Buffer.alloc(1)])), /something follows its end/);
  });

  test('with any bit flipped', async () => {
    const { bytes } = await exported(DISK_ONLY);
    for (let at = 0; at < bytes.length; at++) {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8));
      await assert.rejects(imported(flipped), (error: unknown) => {
        assert.ok(error instanceof BangerError, `byte ${at}: ${String(error)}`);
        return error.code === (at >= 8 && at < 12 ? 'unsupported' : 'verify_failed');
      });
    }
  });

  test('any bytes at all, with and without a right beginning', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 4000 }), fc.boolean(), async (noise, isBegun) => {
        const start = Buffer.from('BANGERSN\u0001\0\0\0', 'latin1');
        await assert.rejects(imported(isBegun ? Buffer.concat([start, noise]) : noise), isRefusal);
      }),
    );
  });

  test('with a header that is not ours, or contradicts itself', async () => {
    const { bytes } = await exported(WITH_MEMORY);
    const good = headerOf(bytes);
    const { manifest, files } = good;
    const withFile = (at: number, change: object) =>
      files.map((file, index) => (index === at ? { ...file, ...change } : file));
    const headers: Readonly<Record<string, unknown>> = {
      'no JSON': '{',
      deep: '['.repeat(200_000),
      more: { ...good, more: 1 },
      'a path': { ...good, files: withFile(1, { name: '../transfer.img' }) },
      'another file': { ...good, files: withFile(1, { name: 'manifest.json' }) },
      'a file twice': { ...good, files: [files[0], files[0], files[2], files[3]] },
      'a file less': { ...good, files: files.slice(0, 3) },
      'more in a file than its size': {
        ...good,
        files: withFile(2, { dataBytes: 1001 }),
      },
      'a negative size': { ...good, files: withFile(1, { sizeBytes: -1 }) },
      'an odd size': { ...good, files: withFile(1, { sizeBytes: 1e300 }) },
      'memory without state': { ...good, manifest: { ...manifest, state: null } },
      'other vCPUs': { ...good, manifest: { ...manifest, vcpus: 2 } },
      'other memory': { ...good, manifest: { ...manifest, memoryMib: 9 } },
      'another disk': { ...good, manifest: { ...manifest, rootDiskBytes: 1 } },
      'another image': { ...good, manifest: { ...manifest, image: { name: 'other', rootfsSha256: digest } } },
      'another root disk': {
        ...good,
        manifest: { ...manifest, rootDisk: { ...manifest.rootDisk, sparseSha256: digest } },
      },
      'a time that is none': { ...good, manifest: { ...manifest, createdAt: '\u001b[31m' } },
      'control characters': { ...good, manifest: { ...manifest, shape: { '\u001b[31m': 'x' } } },
      'a name that is a path': { ...good, manifest: { ...manifest, name: '../x' } },
    };
    for (const [what, header] of Object.entries(headers))
      await assert.rejects(new ExportReader(inChunks(forged(header), 1000)).header(), isRefusal, what);
    await new ExportReader(inChunks(forged(good), 1000)).header();
  });

  test('with extents that lie', async () => {
    const { bytes } = await exported(DISK_ONLY);
    const header = headerOf(bytes);
    const block = Buffer.alloc(BLOCK, 3);
    const stored = zstdCompressSync(block);
    const bomb = zstdCompressSync(Buffer.alloc(200 * MIB));
    const smallBomb = zstdCompressSync(Buffer.alloc(200 * MIB), {
      params: { [constants.ZSTD_c_windowLog]: 17 },
    });
    const two = zstdCompressSync(Buffer.alloc(2 * BLOCK, 3));
    const good = [BLOCK, 2 * BLOCK, two] as const;
    const lies: readonly (readonly [
      words: RegExp,
      ...extents: (readonly [offset: number, length: number, stored: Buffer])[],
    ])[] = [
      [/root.qcow2 at 65536: Frame requires too much memory/, [BLOCK, 2 * BLOCK, bomb]],
      [/root.qcow2 at 65536: Cannot create a Buffer larger than/, [BLOCK, 2 * BLOCK, smallBomb]],
      [/has less at 65536 than it says/, [BLOCK, 2 * BLOCK, stored]],
      [/root.qcow2 at 65536: /, [BLOCK, 2 * BLOCK, block]],
      [/has 131072 bytes at 65537/, [BLOCK + 1, 2 * BLOCK, two]],
      [/has 131071 bytes at 65536/, [BLOCK, 2 * BLOCK - 1, two]],
      [/has 131072 bytes at 262144/, [4 * BLOCK, 2 * BLOCK, two]],
      [/has 131072 bytes at 4503599627370496/, [2 ** 52, 2 * BLOCK, two]],
      [/has 65536 bytes at 65536/, [2 * BLOCK, BLOCK, stored], [BLOCK, BLOCK, stored]],
      [/has 65536 bytes at 65536/, [BLOCK, BLOCK, stored], [BLOCK, BLOCK, stored]],
      [/has 0 bytes at 65536/, [BLOCK, 0, stored]],
      [/has 1114112 bytes at 0/, [0, MAX_EXTENT_BYTES + BLOCK, bomb]],
      [/has more in it than it says/, [0, 3 * BLOCK, zstdCompressSync(Buffer.alloc(3 * BLOCK, 3))]],
      [
        /root.qcow2 is not what was written/,
        [BLOCK, 2 * BLOCK, zstdCompressSync(Buffer.alloc(2 * BLOCK, 4))],
      ],
      [/transfer.img has more in it than it says/, good, good],
    ];
    const transfer = Buffer.alloc(BLOCK);
    transfer.fill(4, 0, 10);
    const rest = [40 * 1024 ** 3, BLOCK, zstdCompressSync(transfer)] as const;
    await imported(forged(header, good, rest));
    for (const [words, ...extents] of lies) {
      await assert.rejects(imported(forged(header, ...extents, rest)), (error: unknown) => {
        assert.ok(isRefusal(error), String(words));
        assert.match((error as Error).message, words);
        return true;
      });
    }
  });

  test('a source that fails says why', async () => {
    const { bytes } = await exported(DISK_ONLY);
    async function* failing(): AsyncGenerator<Uint8Array, void, void> {
      yield bytes.subarray(0, 100);
      throw new BangerError('cancelled', 'gone');
    }
    await assert.rejects(new ExportReader(failing()).header(), { code: 'cancelled' });
  });
});

test('a later version is said to be one', async () => {
  const { bytes } = await exported(DISK_ONLY);
  bytes.writeUInt32LE(2, 8);
  await assert.rejects(imported(bytes), { code: 'unsupported' });
  writeFileSync(join(dir, 'text'), 'hello');
  await assert.rejects(imported(Buffer.alloc(100, 'hello')), /this is not an exported snapshot/);
});
