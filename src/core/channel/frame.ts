/**
 * The framing of docs/agent-protocol.md: 12-byte header, little endian, then the payload.
 *
 *   offset 0  u32  payload length
 *          4  u8   type
 *          5  u8   channel (0 stdin, 1 stdout, 2 stderr; 0 where the type has none)
 *          6  u16  reserved, zero
 *          8  u32  stream (0 is the session itself: HELLO only)
 *
 * The same frames travel host ↔ guest (virtio-serial, vsock) and client ↔ daemon (ticketed unix socket).
 */

export const PROTOCOL_VERSION = 1;
export const HEADER_BYTES = 12;
/** Largest payload of a DATA frame, and of every other type but OPEN. */
export const MAX_PAYLOAD_BYTES = 64 * 1024;
/** Largest payload of an OPEN frame (argv and environment travel in it). */
export const MAX_OPEN_PAYLOAD_BYTES = 1024 * 1024;
/** Longest text of a CLOSE frame. */
export const MAX_CLOSE_TEXT_BYTES = 1024;
/** Credit each side has at the start, per stream, channel and direction. */
export const INITIAL_WINDOW_BYTES = 512 * 1024;
export const MAX_STREAMS = 1536;

export const FRAME_TYPES = {
  hello: 1,
  open: 2,
  data: 3,
  eof: 4,
  window: 5,
  signal: 6,
  resize: 7,
  reset: 8,
  close: 9,
} as const;
export type FrameTypeName = keyof typeof FRAME_TYPES;
export type FrameType = (typeof FRAME_TYPES)[FrameTypeName];

export const STDIN = 0;
export const STDOUT = 1;
export const STDERR = 2;

export interface Frame {
  readonly type: FrameType;
  readonly channel: number;
  readonly stream: number;
  readonly payload: Uint8Array;
}

/** The peer broke the framing: the connection cannot be trusted any more. */
export class FrameError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FrameError';
  }
}

const NO_PAYLOAD = new Uint8Array(0);

/** What each type may look like: payload sizes, whether it names a channel, whether it belongs to a stream. */
interface Shape {
  readonly minBytes: number;
  readonly maxBytes: number;
  readonly hasChannel: boolean;
  readonly ofSession: boolean;
}

function shape(minBytes: number, maxBytes: number, hasChannel = false, ofSession = false): Shape {
  return { minBytes, maxBytes, hasChannel, ofSession };
}

/** By type number; the first is no type. */
const SHAPES: readonly (Shape | undefined)[] = [
  undefined,
  shape(0, MAX_PAYLOAD_BYTES, false, true),
  shape(1, MAX_OPEN_PAYLOAD_BYTES),
  shape(1, MAX_PAYLOAD_BYTES, true),
  shape(0, 0, true),
  shape(4, 4, true),
  shape(4, 4),
  shape(4, 4),
  shape(0, 0),
  shape(5, 5 + MAX_CLOSE_TEXT_BYTES),
];

/** The header alone, for a payload that is written after it without being copied. */
export function encodeHeader(
  type: FrameType,
  stream: number,
  channel: number,
  payloadBytes: number,
): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  writeHeader(bytes, type, stream, channel, payloadBytes);
  return bytes;
}

/** One frame as bytes: header and payload in a single array, so that it is written at once. */
export function encodeFrame(
  type: FrameType,
  stream: number,
  channel = 0,
  payload: Uint8Array = NO_PAYLOAD,
): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  writeHeader(bytes, type, stream, channel, payload.length);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

function writeHeader(
  bytes: Uint8Array,
  type: FrameType,
  stream: number,
  channel: number,
  payloadBytes: number,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  view.setUint32(0, payloadBytes, true);
  view.setUint8(4, type);
  view.setUint8(5, channel);
  view.setUint32(8, stream, true);
}

/** The credit a WINDOW frame carries, and the number a SIGNAL frame carries, is its whole payload: one u32. */
export function encodeU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export function decodeU32(payload: Uint8Array): number {
  return new DataView(payload.buffer, payload.byteOffset, payload.byteLength).getUint32(0, true);
}

/** The payload of RESIZE. */
export function encodeSize(rows: number, columns: number): Uint8Array {
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, rows, true);
  view.setUint16(2, columns, true);
  return bytes;
}

/**
 * Turns chunks of bytes into frames, however the chunks cut them.
 *
 * The payload of DATA is never copied: a DATA frame that is not all there comes in pieces, each a frame of its own with
 * the same channel and stream, as its bytes arrive. Every other frame is put together, in a buffer of its size.
 */
export class FrameParser {
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerFilled = 0;
  /** The frame whose payload is coming, when it is not DATA. */
  #partial: { readonly header: Header; readonly payload: Uint8Array } | undefined;
  #partialFilled = 0;
  /** The DATA frame whose payload is coming, and how much of it is. */
  #data: Header | undefined;
  #dataLeft = 0;

  /** Bytes of an incomplete frame held back. */
  get pendingBytes(): number {
    return this.#headerFilled + (this.#partial === undefined ? 0 : HEADER_BYTES + this.#partialFilled);
  }

  /** The bytes so far end where a frame ends. */
  get isAtBoundary(): boolean {
    return this.pendingBytes === 0 && this.#dataLeft === 0;
  }

  /**
   * Takes the next bytes and yields every frame they complete, and what there is of a DATA frame; take them all before
   * the next call. A payload is a view into `chunk` or into memory that the parser never touches again: it stays valid
   * as long as the chunk does, and keeps the chunk in memory as long as it is kept.
   * @throws {FrameError} unknown type, reserved bits, or a length, channel or stream the type cannot have
   */
  *push(chunk: Uint8Array): Generator<Frame, void, void> {
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#data !== undefined) {
        const end = Math.min(chunk.length, offset + this.#dataLeft);
        const { type, channel, stream } = this.#data;
        this.#dataLeft -= end - offset;
        if (this.#dataLeft === 0) this.#data = undefined;
        yield { type, channel, stream, payload: chunk.subarray(offset, end) };
        offset = end;
      } else if (this.#partial !== undefined) {
        offset = this.#fill(chunk, offset, this.#partial.payload);
        if (this.#partialFilled < this.#partial.payload.length) return;
        const { header, payload } = this.#partial;
        this.#partial = undefined;
        yield { type: header.type, channel: header.channel, stream: header.stream, payload };
      } else {
        const count = Math.min(HEADER_BYTES - this.#headerFilled, chunk.length - offset);
        this.#header.set(chunk.subarray(offset, offset + count), this.#headerFilled);
        this.#headerFilled += count;
        offset += count;
        if (this.#headerFilled < HEADER_BYTES) return;
        const header = decodeHeader(this.#header);
        this.#headerFilled = 0;
        const end = offset + header.length;
        if (header.length > 0 && header.type === FRAME_TYPES.data) this.#begin(header);
        else if (end > chunk.length) this.#assemble(header);
        else {
          const { type, channel, stream } = header;
          yield { type, channel, stream, payload: chunk.subarray(offset, end) };
          offset = end;
        }
      }
    }
  }

  #begin(header: Header): void {
    this.#data = header;
    this.#dataLeft = header.length;
  }

  #assemble(header: Header): void {
    this.#partial = { header, payload: new Uint8Array(header.length) };
    this.#partialFilled = 0;
  }

  #fill(chunk: Uint8Array, from: number, payload: Uint8Array): number {
    const count = Math.min(payload.length - this.#partialFilled, chunk.length - from);
    payload.set(chunk.subarray(from, from + count), this.#partialFilled);
    this.#partialFilled += count;
    return from + count;
  }
}

interface Header {
  readonly length: number;
  readonly type: FrameType;
  readonly channel: number;
  readonly stream: number;
}

/** @throws {FrameError} */
function decodeHeader(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const length = view.getUint32(0, true);
  const type = view.getUint8(4);
  const channel = view.getUint8(5);
  const stream = view.getUint32(8, true);
  const known = SHAPES[type];
  if (known === undefined) throw new FrameError(`unknown frame type ${type}`);
  if (view.getUint16(6, true) !== 0) throw new FrameError('reserved header bits are set');
  if (channel > (known.hasChannel ? STDERR : 0)) {
    throw new FrameError(`frame type ${type} on channel ${channel}`);
  }
  if (length > known.maxBytes) {
    throw new FrameError(
      `frame type ${type}: payload of ${length} bytes is over the limit of ${known.maxBytes}`,
    );
  }
  if (length < known.minBytes) {
    throw new FrameError(`frame type ${type}: payload of ${length} bytes is too short`);
  }
  if ((stream === 0) !== known.ofSession) throw new FrameError(`frame type ${type} on stream ${stream}`);
  return { length, type: type as FrameType, channel, stream };
}
