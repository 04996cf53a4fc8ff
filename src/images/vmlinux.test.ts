import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as zlib from 'node:zlib';
import fc from 'fast-check';
import { BangerError } from '../core/errors.ts';
import { createRunner } from '../host/runner.ts';
import { extractVmlinux } from './kernel-build.ts';
import { checkVmlinux, findKernelPayload } from './vmlinux.ts';

const runner = createRunner();
const signal = new AbortController().signal;

/** A minimal ELF64 x86-64 executable with one program header, and some text that compresses. */
function elf(): Buffer {
  const bytes = Buffer.alloc(4096, 'kernel text ');
  bytes.fill(0, 0, 64 + 56);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  bytes.writeUInt16LE(2, 16);
  bytes.writeUInt16LE(62, 18);
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(1, 56);
  return bytes;
}

function withSize(stream: Uint8Array, plain: Uint8Array): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(plain.length);
  return Buffer.concat([stream, size]);
}

/** A bzImage around a payload, laid out as Documentation/arch/x86/boot.rst says. */
function bzImage(payload: Uint8Array, { setupSects = 4, offset = 0x300 } = {}): Buffer {
  const payloadAt = ((setupSects || 4) + 1) * 512 + offset;
  const image = Buffer.alloc(payloadAt + payload.length + 64);
  image.writeUInt8(setupSects, 0x1f1);
  image.writeUInt16LE(0xaa55, 0x1fe);
  image.write('HdrS', 0x202, 'latin1');
  image.writeUInt16LE(0x020f, 0x206);
  image.writeUInt32LE(offset, 0x248);
  image.writeUInt32LE(payload.length, 0x24c);
  image.set(payload, payloadAt);
  return image;
}

async function xz(plain: Uint8Array, ...options: string[]): Promise<Buffer> {
  return (await runner.run(['xz', '--stdout', ...options], { input: plain })).stdout;
}

test('extracts what gzip, zstd, xz and lzma packed', async () => {
  const plain = elf();
  const payloads = {
    gzip: zlib.gzipSync(plain),
    zstd: withSize(zlib.zstdCompressSync(plain), plain),
    xz: withSize(await xz(plain, '--check=crc32'), plain),
    lzma: withSize(await xz(plain, '--format=lzma'), plain),
  };
  for (const [compression, payload] of Object.entries(payloads)) {
    const image = bzImage(payload);
    assert.equal(findKernelPayload(image).compression, compression);
    assert.deepEqual(Buffer.from(await extractVmlinux(image, { runner, signal })), plain, compression);
  }
});

test('counts four setup sectors when the header says none', async () => {
  const image = bzImage(zlib.gzipSync(elf()), { setupSects: 0 });
  assert.equal((await extractVmlinux(image, { runner, signal })).length, 4096);
});

test('refuses a payload that decompresses to something else', async () => {
  const notElf = Buffer.alloc(4096, 'x');
  await assert.rejects(
    extractVmlinux(bzImage(zlib.gzipSync(notElf)), { runner, signal }),
    /not a 64-bit x86 ELF/,
  );
  const plain = elf();
  const lying = withSize(zlib.zstdCompressSync(plain), Buffer.alloc(plain.length + 1));
  await assert.rejects(extractVmlinux(bzImage(lying), { runner, signal }), /promises 4097/);
});

test('refuses an image that would decompress to more than it promises without doing so', async () => {
  const bomb = withSize(zlib.zstdCompressSync(Buffer.alloc(64 * 1024 * 1024)), Buffer.alloc(4096));
  await assert.rejects(extractVmlinux(bzImage(bomb), { runner, signal }), { code: 'bad_request' });
});

test('refuses an ELF file of another machine or one that is cut off', () => {
  const arm = elf();
  arm.writeUInt16LE(183, 18);
  assert.throws(() => checkVmlinux(arm, arm.length), /not a 64-bit x86 ELF/);
  const cut = elf();
  cut.writeBigUInt64LE(5000n, 32);
  assert.throws(() => checkVmlinux(cut, cut.length), /cut off/);
});

test('never throws anything but BangerError, whatever the bytes', () => {
  const good = bzImage(zlib.gzipSync(elf()));
  const damaged = fc
    .tuple(fc.nat(good.length), fc.array(fc.tuple(fc.nat(0x250), fc.nat(255)), { maxLength: 8 }))
    .map(([length, edits]) => {
      const bytes = Buffer.from(good.subarray(0, length));
      for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
      return bytes;
    });
  const garbage = fc.uint8Array({ maxLength: 4096 });
  fc.assert(
    fc.property(fc.oneof(damaged, garbage), (bytes) => {
      for (const parse of [() => findKernelPayload(bytes), () => checkVmlinux(bytes, bytes.length)]) {
        try {
          parse();
        } catch (error) {
          assert(error instanceof BangerError, String(error));
        }
      }
    }),
    { numRuns: 2000 },
  );
});
