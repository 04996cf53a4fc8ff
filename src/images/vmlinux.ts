/**
 * Finds the compressed ELF kernel inside an x86 bzImage, and checks what decompression made of it. Pure: bytes in, bytes out.
 *
 * Source of the layout: Documentation/arch/x86/boot.rst of the kernel ("The Real-Mode Kernel Header", payload_offset,
 * payload_length), and scripts/Makefile.lib: every compressor but gzip gets the plain size appended as u32 little
 * endian, and a gzip stream ends with the same number.
 */

import { BangerError } from '../core/errors.ts';

export const COMPRESSIONS = ['gzip', 'xz', 'lzma', 'bzip2', 'lz4', 'lzo', 'zstd', 'none'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

export interface KernelPayload {
  readonly compression: Compression;
  /** The compressed stream alone, without the size the build appends. A view, not a copy. */
  readonly bytes: Uint8Array;
  /** What the stream must decompress to, bytes. */
  readonly plainSizeBytes: number;
}

/** No kernel of any distribution comes near it; a forged size must not make us allocate more. */
export const MAX_VMLINUX_BYTES = 512 * 1024 * 1024;

const SECTOR_BYTES = 512;
const HEADER_SETUP_SECTS = 0x1f1;
const HEADER_BOOT_FLAG = 0x1fe;
const HEADER_MAGIC = 0x202;
const HEADER_VERSION = 0x206;
const HEADER_PAYLOAD_OFFSET = 0x248;
const HEADER_PAYLOAD_LENGTH = 0x24c;
const HEADER_END = 0x250;
const BOOT_FLAG = 0xaa55;
const HDRS = 0x53726448;
/** Boot protocol 2.08 brought payload_offset and payload_length. */
const FIRST_VERSION_WITH_PAYLOAD = 0x0208;
/** A header with setup_sects 0 means 4, for very old boot loaders. */
const DEFAULT_SETUP_SECTS = 4;

const MAGICS: readonly (readonly [Compression, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b, 0x08]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['lz4', [0x02, 0x21, 0x4c, 0x18]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['lzo', [0x89, 0x4c, 0x5a, 0x4f]],
  ['lzma', [0x5d, 0x00, 0x00]],
  ['none', [0x7f, 0x45, 0x4c, 0x46]],
];

/**
 * The kernel stream of a bzImage.
 * @throws {BangerError} `bad_request` when the bytes are no bzImage with a payload, or contradict themselves
 */
export function findKernelPayload(bzImage: Uint8Array): KernelPayload {
  if (bzImage.length < HEADER_END)
    throw notAKernel(`it has ${bzImage.length} bytes, less than a boot header`);
  const view = new DataView(bzImage.buffer, bzImage.byteOffset, bzImage.byteLength);
  if (view.getUint16(HEADER_BOOT_FLAG, true) !== BOOT_FLAG || view.getUint32(HEADER_MAGIC, true) !== HDRS) {
    throw notAKernel('there is no x86 boot header in it');
  }
  const version = view.getUint16(HEADER_VERSION, true);
  if (version < FIRST_VERSION_WITH_PAYLOAD) {
    throw notAKernel(`its boot protocol ${version >> 8}.${version & 0xff} is older than 2.8`);
  }
  const setupSects = view.getUint8(HEADER_SETUP_SECTS) || DEFAULT_SETUP_SECTS;
  const start = (setupSects + 1) * SECTOR_BYTES + view.getUint32(HEADER_PAYLOAD_OFFSET, true);
  const length = view.getUint32(HEADER_PAYLOAD_LENGTH, true);
  const end = start + length;
  if (end > bzImage.length) {
    throw notAKernel(`its payload ends at byte ${end}, the file at ${bzImage.length}: the file is cut off`);
  }
  return splitPayload(bzImage.subarray(start, end));
}

/**
 * Checks that decompression gave a 64-bit x86 ELF executable of the promised size.
 * @throws {BangerError} `bad_request`
 */
export function checkVmlinux(vmlinux: Uint8Array, plainSizeBytes: number): void {
  if (vmlinux.length !== plainSizeBytes) {
    throw notAKernel(`it decompresses to ${vmlinux.length} bytes and promises ${plainSizeBytes}`);
  }
  checkElfHeader(vmlinux);
}

function splitPayload(payload: Uint8Array): KernelPayload {
  const compression = MAGICS.find(([, magic]) => magic.every((byte, at) => payload[at] === byte))?.[0];
  if (compression === undefined) throw notAKernel('its payload is in no known compression');
  if (compression === 'none') return { compression, bytes: payload, plainSizeBytes: payload.length };
  if (payload.length < 16) throw notAKernel('its payload is too short');
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const plainSizeBytes = view.getUint32(payload.length - 4, true);
  if (plainSizeBytes < 64 || plainSizeBytes > MAX_VMLINUX_BYTES) {
    throw notAKernel(`it promises a kernel of ${plainSizeBytes} bytes`);
  }
  const bytes = compression === 'gzip' ? payload : payload.subarray(0, payload.length - 4);
  return { compression, bytes, plainSizeBytes };
}

/** ELF64 header fields: e_ident, e_type ET_EXEC (2) or ET_DYN (3), e_machine EM_X86_64 (62), and a program table inside the file. */
function checkElfHeader(elf: Uint8Array): void {
  if (elf.length < 64) throw notAKernel('what is inside is too short for an ELF header');
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  const isElf64LittleEndian = view.getUint32(0, false) === 0x7f454c46 && elf[4] === 2 && elf[5] === 1;
  const type = view.getUint16(16, true);
  if (!isElf64LittleEndian || (type !== 2 && type !== 3) || view.getUint16(18, true) !== 62) {
    throw notAKernel('what is inside is not a 64-bit x86 ELF executable');
  }
  const programTable = view.getBigUint64(32, true);
  const programTableEnd = programTable + BigInt(view.getUint16(54, true) * view.getUint16(56, true));
  if (programTable < 64n || programTableEnd > BigInt(elf.length)) {
    throw notAKernel('the ELF file inside is cut off');
  }
}

function notAKernel(why: string): BangerError {
  return new BangerError('bad_request', `not a usable Linux kernel image: ${why}`, {
    hint: 'it must be a bzImage for x86-64 (a distribution calls it vmlinuz)',
  });
}
