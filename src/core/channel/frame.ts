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
export const MAX_STREAMS = 512;

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
  /** The whole frame, header included: what a relay passes on (see `setFrameStream`). `payload` is a view into it. */
  readonly bytes: Uint8Array;
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

/** Changes the stream number of a whole frame in place. */
export function setFrameStream(bytes: Uint8Array, stream: number): void {
  bytes[8] = stream;
  bytes[9] = stream >>> 8;
  bytes[10] = stream >>> 16;
  bytes[11] = stream >>> 24;
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
 * Turns chunks of bytes into frames, however the chunks cut them. Holds at most one incomplete frame, in a buffer of
 * that frame's size, so that each byte is copied at most once.
 */
export class FrameParser {
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #headerView = new DataView(this.#header.buffer);
  /** The frame being assembled: at first its header alone. */
  #partial: Uint8Array = this.#header;
  #filled = 0;

  /** Bytes of an incomplete frame held back. */
  get pendingBytes(): number {
    return this.#filled;
  }

  /**
   * Takes the next bytes and yields every frame they complete; take them all before the next call.
   * A frame is a view into `chunk` or into memory of its own that the parser never touches again: it stays valid as
   * long as the chunk does, and keeps the chunk in memory as long as it is kept.
   * @throws {FrameError} unknown type, reserved bits, or a length, channel or stream the type cannot have
   */
  *push(chunk: Uint8Array): Generator<Frame, void, void> {
    let offset = 0;
    if (this.#filled > 0) {
      offset = this.#fill(chunk, 0);
      if (this.#filled < this.#partial.length || this.#partial === this.#header) return;
      const bytes = this.#partial;
      this.#partial = this.#header;
      this.#filled = 0;
      yield frameOf(bytes);
    }
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    while (chunk.length - offset >= HEADER_BYTES) {
      const end = offset + HEADER_BYTES + checkHeader(view, offset);
      if (end > chunk.length) break;
      const bytes = chunk.subarray(offset, end);
      offset = end;
      yield frameOf(bytes);
    }
    if (offset < chunk.length) this.#fill(chunk, offset);
  }

  /** Copies from the chunk what the partial frame lacks; returns where it stopped. */
  #fill(chunk: Uint8Array, from: number): number {
    let offset = from;
    if (this.#partial === this.#header) {
      offset = this.#copy(chunk, offset);
      if (this.#filled < HEADER_BYTES) return offset;
      this.#partial = new Uint8Array(HEADER_BYTES + checkHeader(this.#headerView, 0));
      this.#partial.set(this.#header);
    }
    return this.#copy(chunk, offset);
  }

  #copy(chunk: Uint8Array, from: number): number {
    const count = Math.min(this.#partial.length - this.#filled, chunk.length - from);
    this.#partial.set(chunk.subarray(from, from + count), this.#filled);
    this.#filled += count;
    return from + count;
  }
}

/** Checks the header at `offset`; returns the payload's length. */
function checkHeader(view: DataView, offset: number): number {
  const length = view.getUint32(offset, true);
  const type = view.getUint8(offset + 4);
  const channel = view.getUint8(offset + 5);
  const stream = view.getUint32(offset + 8, true);
  const known = SHAPES[type];
  if (known === undefined) throw new FrameError(`unknown frame type ${type}`);
  if (view.getUint16(offset + 6, true) !== 0) throw new FrameError('reserved header bits are set');
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
  return length;
}

/** A whole frame whose header has been checked. */
function frameOf(bytes: Uint8Array): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  return {
    type: view.getUint8(4) as FrameType,
    channel: view.getUint8(5),
    stream: view.getUint32(8, true),
    payload: bytes.subarray(HEADER_BYTES),
    bytes,
  };
}
