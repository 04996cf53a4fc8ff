/**
 * The framing of docs/agent-protocol.md: 12-byte header, little endian, then the payload.
 *
 *   offset 0  u32  payload length
 *          4  u8   type
 *          5  u8   channel (0 stdin, 1 stdout, 2 stderr; 0 where the type has none)
 *          6  u16  reserved, zero
 *          8  u32  stream (0 is the session itself)
 *
 * The same frames travel host ↔ guest (virtio-serial, vsock) and client ↔ daemon (ticketed unix socket).
 */

export const PROTOCOL_VERSION = 1;
export const HEADER_BYTES = 12;
/** Largest payload of a DATA frame, and of every other type but OPEN. */
export const MAX_PAYLOAD_BYTES = 64 * 1024;
/** Largest payload of an OPEN frame (argv and environment travel in it). */
export const MAX_OPEN_PAYLOAD_BYTES = 1024 * 1024;
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
}

/** The peer broke the framing: the connection cannot be trusted any more. */
export class FrameError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FrameError';
  }
}

const NO_PAYLOAD = new Uint8Array(0);

/** One frame as bytes: header and payload in a single array, so that it is written at once. */
export function encodeFrame(
  type: FrameType,
  stream: number,
  channel = 0,
  payload: Uint8Array = NO_PAYLOAD,
): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, payload.length, true);
  view.setUint8(4, type);
  view.setUint8(5, channel);
  view.setUint32(8, stream, true);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** The credit a WINDOW frame carries is its whole payload: one u32. */
export function encodeU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function isFrameType(value: number): value is FrameType {
  return value >= FRAME_TYPES.hello && value <= FRAME_TYPES.close;
}

/** Turns chunks of bytes into frames. Holds at most one incomplete frame. */
export class FrameParser {
  #pending: Uint8Array = NO_PAYLOAD;

  /**
   * Takes the next bytes and yields every frame they complete.
   * A payload may be a view into `chunk`: use it or copy it before the next call.
   * @throws {FrameError} unknown type, reserved bits, a payload over its limit, a channel over 2
   */
  *push(chunk: Uint8Array): Generator<Frame, void, void> {
    let bytes = chunk;
    if (this.#pending.length > 0) {
      bytes = new Uint8Array(this.#pending.length + chunk.length);
      bytes.set(this.#pending, 0);
      bytes.set(chunk, this.#pending.length);
      this.#pending = NO_PAYLOAD;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let offset = 0;
    while (bytes.length - offset >= HEADER_BYTES) {
      const length = view.getUint32(offset, true);
      const type = view.getUint8(offset + 4);
      const channel = view.getUint8(offset + 5);
      if (!isFrameType(type)) throw new FrameError(`unknown frame type ${type}`);
      if (view.getUint16(offset + 6, true) !== 0) throw new FrameError('reserved header bits are set');
      if (channel > STDERR) throw new FrameError(`unknown channel ${channel}`);
      const limit = type === FRAME_TYPES.open ? MAX_OPEN_PAYLOAD_BYTES : MAX_PAYLOAD_BYTES;
      if (length > limit) throw new FrameError(`payload of ${length} bytes is over the limit of ${limit}`);
      if (bytes.length - offset < HEADER_BYTES + length) break;
      const start = offset + HEADER_BYTES;
      offset = start + length;
      yield {
        type,
        channel,
        stream: view.getUint32(start - 4, true),
        payload: bytes.subarray(start, offset),
      };
    }
    if (offset < bytes.length) this.#pending = bytes.slice(offset);
  }
}
