/**
 * Takes QEMU's migration stream apart: the pages of the guest's memory go one way, and everything else another, as a
 * stream that QEMU loads when its memory is there already (`x-ignore-shared`, which both sides have switched on).
 *
 * The format is that of migration/savevm.c and migration/ram.c in QEMU's sources, 7.2; numbers are big-endian:
 *
 *   "QEVM" u32=3, then 7 u32 name (the machine type), its one subsection: 5 u8 name u32=1, u32 count, count × (u8 name)
 *   1 u32=id u8="ram" u32=0 u32=4 RECORDS FOOTER      once: the section begins, with the list of memory blocks
 *   2 u32=id RECORDS FOOTER                           any number
 *   3 u32=id RECORDS FOOTER                           once, the last of memory
 *   4 …                                               the devices; from here on nothing is looked at
 *
 *   RECORDS  u64 = an address, a multiple of 4096, with flags in its low bits; and after it
 *            MEM_SIZE   (the address is the sum of all lengths) for each block: u8 name, u64 length, u64 guest address
 *            PAGE       [u8 name of the block, unless CONTINUE: that of the record before] 4096 bytes
 *            ZERO       [as PAGE] one byte, 0
 *            EOS        nothing: the last record of a section
 *   FOOTER   0x7e u32=id
 */

import {
  addressAt,
  broken,
  endOfName,
  expect,
  flagsAt,
  INCOMPLETE,
  nameIn,
  PAGE_BYTES,
  unknown,
} from './stream-bytes.ts';

/** Where the parts of a stream go. Bytes are `chunk[start, end)`, and only good during the call. */
export interface StreamParts {
  /** Everything but the pages of the guest's memory, in order. */
  state(chunk: Buffer, start: number, end: number): void;
  /** A part of a page. A page may come again: the last one counts. */
  memory(position: number, chunk: Buffer, start: number, end: number): void;
  /** A whole page of zeros. */
  zeroPage(position: number): void;
}

export interface GuestMemory {
  /** What QEMU calls the block. */
  readonly name: string;
  readonly sizeBytes: number;
}

const MAGIC = 0x5145564d;
const VERSION = 3;
const SECTION = {
  start: 1,
  part: 2,
  end: 3,
  full: 4,
  subsection: 5,
  configuration: 7,
  footer: 0x7e,
} as const;
const RAM_VERSION = 4;
const FLAG = { zero: 0x02, memSize: 0x04, page: 0x08, eos: 0x10, continue: 0x20 } as const;
const CAPABILITIES = 'configuration/capabilities';
const CAPABILITY = 'x-ignore-shared';

/** Names have a length of one byte; this is more than any header of the above with its name. */
const MAX_HEADER_BYTES = 512;
const MAX_NAME_BYTES = 255;
/** An emulated machine has five or so. */
const MAX_BLOCKS = 64;

/** In the place of a position in memory. */
const TO_STATE = -1;

/** Looks at what begins at `at`: gives where that ends, or INCOMPLETE and has changed nothing. */
type Step = (bytes: Buffer, at: number) => number;

interface Block {
  readonly isMemory: boolean;
  readonly sizeBytes: number;
}

export class RamStreamSplitter {
  readonly #memory: GuestMemory;
  readonly #parts: StreamParts;
  /** The beginning of a header whose rest has not come. */
  #carried = Buffer.alloc(0);
  #step: Step = (bytes, at) => this.#header(bytes, at);
  /** Bytes that follow without a header, and where in memory they belong. */
  #bytesLeft = 0;
  #position = TO_STATE;
  #sectionId = 0;
  #isLastSection = false;
  readonly #blocks = new Map<string, Block>();
  #listBytesLeft = 0;
  #block: Block | undefined;

  constructor(memory: GuestMemory, parts: StreamParts) {
    this.#memory = memory;
    this.#parts = parts;
  }

  /** @throws {BangerError} `vmm_failed` (broken), `unsupported` (not what is known of the format); it is over then */
  push(chunk: Buffer): void {
    let at = this.#pushCarried(chunk);
    while (at < chunk.length) {
      if (this.#bytesLeft > 0) {
        at = this.#passOn(chunk, at);
        continue;
      }
      const end = this.#step(chunk, at);
      if (end === INCOMPLETE) {
        this.#carried = Buffer.from(chunk.subarray(at));
        return;
      }
      at = end;
    }
  }

  /** @throws {BangerError} `vmm_failed`: the stream ended before the devices */
  end(): void {
    if (this.#bytesLeft !== Number.POSITIVE_INFINITY) throw broken('it ends early');
  }

  /** Where in the chunk the header ends that began before it. */
  #pushCarried(chunk: Buffer): number {
    const carriedBytes = this.#carried.length;
    if (carriedBytes === 0) return 0;
    const head = Buffer.concat([this.#carried, chunk.subarray(0, MAX_HEADER_BYTES)]);
    const end = this.#step(head, 0);
    this.#carried = end === INCOMPLETE ? head : Buffer.alloc(0);
    return end === INCOMPLETE ? chunk.length : end - carriedBytes;
  }

  #passOn(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#bytesLeft);
    if (this.#position === TO_STATE) {
      this.#parts.state(chunk, at, end);
    } else {
      this.#parts.memory(this.#position, chunk, at, end);
      this.#position += end - at;
    }
    this.#bytesLeft -= end - at;
    return end;
  }

  #header(bytes: Buffer, at: number): number {
    const end = at + 8;
    if (bytes.length < end) return INCOMPLETE;
    if (bytes.readUInt32BE(at) !== MAGIC) throw broken('it is no migration stream');
    expect('version', bytes.readUInt32BE(at + 4), VERSION);
    this.#step = (...given) => this.#configuration(...given);
    return this.#keep(bytes, at, end);
  }

  #configuration(bytes: Buffer, at: number): number {
    if (bytes.length < at + 5) return INCOMPLETE;
    expect('section', bytes[at], SECTION.configuration);
    const nameBytes = bytes.readUInt32BE(at + 1);
    if (nameBytes > MAX_NAME_BYTES) throw broken(`the name of its machine has ${nameBytes} bytes`);
    const end = at + 5 + nameBytes;
    if (bytes.length < end) return INCOMPLETE;
    this.#step = (...given) => this.#capabilities(...given);
    return this.#keep(bytes, at, end);
  }

  #capabilities(bytes: Buffer, at: number): number {
    const nameEnd = endOfName(bytes, at + 1);
    if (nameEnd === INCOMPLETE || bytes.length < nameEnd + 8) return INCOMPLETE;
    expect('section', bytes[at], SECTION.subsection);
    expect('subsection', nameIn(bytes, at + 1, nameEnd), CAPABILITIES);
    expect('capabilities version', bytes.readUInt32BE(nameEnd), 1);
    expect('number of capabilities', bytes.readUInt32BE(nameEnd + 4), 1);
    const end = endOfName(bytes, nameEnd + 8);
    if (end === INCOMPLETE) return INCOMPLETE;
    expect('capability', nameIn(bytes, nameEnd + 8, end), CAPABILITY);
    this.#step = (...given) => this.#firstSection(...given);
    return this.#keep(bytes, at, end);
  }

  #firstSection(bytes: Buffer, at: number): number {
    const nameEnd = endOfName(bytes, at + 5);
    if (nameEnd === INCOMPLETE || bytes.length < nameEnd + 8) return INCOMPLETE;
    expect('section', bytes[at], SECTION.start);
    expect('name of the first section', nameIn(bytes, at + 5, nameEnd), 'ram');
    expect('instance of the memory', bytes.readUInt32BE(nameEnd), 0);
    expect('version of the memory', bytes.readUInt32BE(nameEnd + 4), RAM_VERSION);
    this.#sectionId = bytes.readUInt32BE(at + 1);
    this.#step = (...given) => this.#blockList(...given);
    return this.#keep(bytes, at, nameEnd + 8);
  }

  #blockList(bytes: Buffer, at: number): number {
    const end = at + 8;
    if (bytes.length < end) return INCOMPLETE;
    expect('first record', flagsAt(bytes, at), FLAG.memSize);
    this.#listBytesLeft = addressAt(bytes, at);
    this.#step = (...given) => this.#listedBlock(...given);
    return this.#keep(bytes, at, end);
  }

  #listedBlock(bytes: Buffer, at: number): number {
    const nameEnd = endOfName(bytes, at);
    if (nameEnd === INCOMPLETE || bytes.length < nameEnd + 16) return INCOMPLETE;
    const name = nameIn(bytes, at, nameEnd);
    const sizeBytes = addressAt(bytes, nameEnd);
    const isMemory = name === this.#memory.name;
    if (sizeBytes === 0 || flagsAt(bytes, nameEnd) !== 0 || sizeBytes > this.#listBytesLeft) {
      throw broken(`its block ${JSON.stringify(name)} has ${sizeBytes} bytes`);
    }
    if (isMemory) expect('size of the memory', sizeBytes, this.#memory.sizeBytes);
    if (this.#blocks.has(name) || this.#blocks.size >= MAX_BLOCKS)
      throw broken('it lists blocks twice, or too many');
    this.#blocks.set(name, { isMemory, sizeBytes });
    this.#listBytesLeft -= sizeBytes;
    if (this.#listBytesLeft === 0) {
      if (!this.#blocks.has(this.#memory.name)) throw broken(`it has no block "${this.#memory.name}"`);
      this.#step = this.#record;
    }
    return this.#keep(bytes, at, nameEnd + 16);
  }

  /** A field, and not a method, because there are as many records as there are pages. */
  readonly #record: Step = (bytes, at) => {
    if (bytes.length < at + 8) return INCOMPLETE;
    const flags = flagsAt(bytes, at);
    if (flags === FLAG.eos) {
      this.#step = (...given) => this.#footer(...given);
      return this.#keep(bytes, at, at + 8);
    }
    const kind = flags & ~FLAG.continue;
    if (kind !== FLAG.page && kind !== FLAG.zero) throw unknown('flags of a page', flags);
    let end = at + 8;
    let block = this.#block;
    if (flags === kind) {
      end = endOfName(bytes, end);
      if (end === INCOMPLETE) return INCOMPLETE;
      block = this.#blocks.get(nameIn(bytes, at + 8, end));
    }
    const position = addressAt(bytes, at);
    if (block === undefined || position >= block.sizeBytes) throw broken('a page lies nowhere');
    if (kind === FLAG.page) {
      this.#bytesLeft = PAGE_BYTES;
      this.#position = block.isMemory ? position : TO_STATE;
    } else {
      if (bytes.length <= end) return INCOMPLETE;
      expect('byte that fills a page', bytes[end], 0);
      end += 1;
      if (block.isMemory) this.#parts.zeroPage(position);
    }
    this.#block = block;
    return block.isMemory ? end : this.#keep(bytes, at, end);
  };

  #footer(bytes: Buffer, at: number): number {
    const end = at + 5;
    if (bytes.length < end) return INCOMPLETE;
    expect('footer', bytes[at], SECTION.footer);
    expect('section of a footer', bytes.readUInt32BE(at + 1), this.#sectionId);
    this.#step = this.#isLastSection
      ? (...given) => this.#devices(...given)
      : (...given) => this.#nextSection(...given);
    return this.#keep(bytes, at, end);
  }

  #nextSection(bytes: Buffer, at: number): number {
    const end = at + 5;
    if (bytes.length < end) return INCOMPLETE;
    this.#isLastSection = bytes[at] === SECTION.end;
    if (!this.#isLastSection) expect('section', bytes[at], SECTION.part);
    expect('number of a section', bytes.readUInt32BE(at + 1), this.#sectionId);
    this.#step = this.#record;
    return this.#keep(bytes, at, end);
  }

  #devices(bytes: Buffer, at: number): number {
    expect('section', bytes[at], SECTION.full);
    this.#bytesLeft = Number.POSITIVE_INFINITY;
    this.#position = TO_STATE;
    return at;
  }

  #keep(bytes: Buffer, start: number, end: number): number {
    this.#parts.state(bytes, start, end);
    return end;
  }
}
