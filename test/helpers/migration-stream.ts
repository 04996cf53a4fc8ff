/** Migration streams as QEMU 7.2 sends them, for tests: the format is in src/vmm/qemu/ram-stream.ts. */

import { PAGE_BYTES } from '../../src/vmm/qemu/stream-bytes.ts';

export interface Record {
  readonly block: string;
  /** Number of the page. */
  readonly at: number;
  /** Of a page with data. */
  readonly fill: number;
  readonly kind: 'page' | 'zero';
}

const SECTION_ID = 2;
const FLAG_CONTINUE = 0x20;

/** Some devices: nothing looks at them. */
export const DEVICES = Buffer.concat([Buffer.of(4), Buffer.alloc(3000, 'devices')]);

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

export function header(): Buffer {
  return Buffer.concat([u32(0x5145564d), u32(3)]);
}

export function configuration(part = 'configuration/capabilities', capability = 'x-ignore-shared'): Buffer {
  const machine = Buffer.from('microvm');
  const words = [Buffer.of(7), u32(machine.length), machine, Buffer.of(5), named(part), u32(1), u32(1)];
  return Buffer.concat([...words, named(capability)]);
}

export function block(name: string, sizeBytes: number): Buffer {
  return Buffer.concat([named(name), u64(sizeBytes), u64(0)]);
}

export function page(name: string, at: number, fill: number, flags = 0): Buffer {
  return Buffer.concat([pageHeader(name, at, 0x08 | flags), Buffer.alloc(PAGE_BYTES, fill)]);
}

export function zero(name: string, at: number, fill: number): Buffer {
  return Buffer.concat([pageHeader(name, at, 0x02), Buffer.of(fill)]);
}

export function eos(): Buffer {
  return u64(0x10);
}

export function footer(id = SECTION_ID): Buffer {
  return Buffer.concat([Buffer.of(0x7e), u32(id)]);
}

/** A section of memory. The first has a footer of its own; the caller says how others end. */
export function section(type: number, ...records: readonly Buffer[]): Buffer {
  if (type !== 1) return Buffer.concat([Buffer.of(type), u32(SECTION_ID), ...records]);
  return Buffer.concat([Buffer.of(1), u32(SECTION_ID), named('ram'), u32(0), u32(4), ...records, footer()]);
}

/**
 * A whole stream: the list of blocks, sections with these records, and devices.
 * @param all the records among which those of `sections` came first: which of them names its block follows from it
 */
export function migrationStream(
  blocks: readonly { readonly name: string; readonly sizeBytes: number }[],
  sections: readonly (readonly Record[])[],
  all: readonly (readonly Record[])[] = sections,
): Buffer {
  const total = blocks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const list = [u64(total | 0x04), ...blocks.map(({ name, sizeBytes }) => block(name, sizeBytes)), eos()];
  const parts = [header(), configuration(), section(1, ...list)];
  const kept = new Set(sections.flat());
  let last: string | undefined;
  for (const [index, records] of all.entries()) {
    const bytes: Buffer[] = [];
    for (const record of records) {
      if (kept.has(record)) bytes.push(recordBytes(record, record.block === last));
      last = record.block;
    }
    parts.push(section(index === all.length - 1 ? 3 : 2, ...bytes, eos()), footer());
  }
  return Buffer.concat([...parts, DEVICES]);
}

function recordBytes({ block: name, at, fill, kind }: Record, continues: boolean): Buffer {
  const blockName = continues ? '' : name;
  return kind === 'page' ? page(blockName, at, fill) : zero(blockName, at, 0);
}

/** Without a name it is a page of the block before. */
function pageHeader(name: string, at: number, flags: number): Buffer {
  if (name === '') return u64(at * PAGE_BYTES + (flags | FLAG_CONTINUE));
  return Buffer.concat([u64(at * PAGE_BYTES + flags), named(name)]);
}

function named(name: string): Buffer {
  return Buffer.concat([Buffer.of(name.length), Buffer.from(name, 'latin1')]);
}
