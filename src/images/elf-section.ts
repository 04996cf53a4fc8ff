/** Reads one section of a little-endian 64-bit ELF file. Source: the ELF-64 object file format, "Section headers". */

const ELF_HEADER_BYTES = 64;
const SECTION_HEADER_BYTES = 64;
const MAX_SECTIONS = 4096;

/** The bytes of the named section as a view; undefined when the file is no such ELF, is cut off, or has no such section. */
export function elfSection(elf: Uint8Array, name: string): Uint8Array | undefined {
  if (elf.length < ELF_HEADER_BYTES) return undefined;
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  if (view.getUint32(0, false) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1) return undefined;
  const table = view.getBigUint64(40, true);
  const entryBytes = view.getUint16(58, true);
  const count = view.getUint16(60, true);
  const namesIndex = view.getUint16(62, true);
  if (entryBytes !== SECTION_HEADER_BYTES || count > MAX_SECTIONS || namesIndex >= count) return undefined;
  if (table + BigInt(count * SECTION_HEADER_BYTES) > BigInt(elf.length)) return undefined;
  const headerAt = (index: number) => Number(table) + index * SECTION_HEADER_BYTES;
  const names = content(elf, view, headerAt(namesIndex));
  if (names === undefined) return undefined;
  for (let index = 0; index < count; index++) {
    if (stringAt(names, view.getUint32(headerAt(index), true)) === name)
      return content(elf, view, headerAt(index));
  }
  return undefined;
}

function content(elf: Uint8Array, view: DataView, header: number): Uint8Array | undefined {
  const offset = view.getBigUint64(header + 24, true);
  const size = view.getBigUint64(header + 32, true);
  if (offset + size > BigInt(elf.length)) return undefined;
  return elf.subarray(Number(offset), Number(offset + size));
}

function stringAt(table: Uint8Array, offset: number): string | undefined {
  if (offset >= table.length) return undefined;
  const end = table.indexOf(0, offset);
  return Buffer.from(table.subarray(offset, end === -1 ? table.length : end)).toString('latin1');
}
