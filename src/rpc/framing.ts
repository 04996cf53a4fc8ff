/**
 * JSON-RPC messages on a byte stream, as the Language Server Protocol frames them ("Base Protocol"):
 * `Content-Length: <bytes>\r\n\r\n` and that many bytes of UTF-8 JSON. Both sides use this one, because the limits are here.
 */

/** Longest header block: ours is one short line. */
const MAX_HEADER_BYTES = 256;
const HEADER_END = Buffer.from('\r\n\r\n');
const CONTENT_LENGTH = /^content-length: *(\d{1,10})$/i;

/** The peer does not speak the protocol, or says too much: nothing after this can be trusted. */
export class FramingError extends Error {
  readonly reason: 'malformed' | 'too_large';

  constructor(reason: 'malformed' | 'too_large', message: string) {
    super(message);
    this.name = 'FramingError';
    this.reason = reason;
  }
}

export function encodeMessage(message: object): Buffer {
  const body = JSON.stringify(message);
  const bodyBytes = Buffer.byteLength(body);
  const header = `Content-Length: ${bodyBytes}\r\n\r\n`;
  const bytes = Buffer.allocUnsafe(header.length + bodyBytes);
  bytes.write(header, 0, 'latin1');
  bytes.write(body, header.length, 'utf8');
  return bytes;
}

function bodyLength(header: string, limitBytes: number): number {
  let length: number | undefined;
  for (const line of header.split('\r\n')) {
    const match = CONTENT_LENGTH.exec(line);
    if (match !== null && length === undefined) length = Number(match[1]);
    else if (!/^content-type: *[\w/;=. +-]*$/i.test(line)) {
      throw new FramingError('malformed', 'a message header that is not Content-Length');
    }
  }
  if (length === undefined) throw new FramingError('malformed', 'a message without Content-Length');
  if (length > limitBytes) {
    throw new FramingError('too_large', `a message of ${length} bytes is over the limit of ${limitBytes}`);
  }
  return length;
}

/** Turns chunks of bytes into parsed JSON values. Holds at most one incomplete message. */
export class MessageParser {
  readonly #limitBytes: number;
  #chunks: Buffer[] = [];
  #heldBytes = 0;
  /** Bytes needed before there is anything to look at: spares joining the chunks of a long message again and again. */
  #neededBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** Whether a message has begun and not ended. */
  get partial(): boolean {
    return this.#heldBytes > 0;
  }

  /**
   * Takes the next bytes and yields the messages they complete.
   * @throws {FramingError} a header that is not ours, a message over the limit, a body that is not JSON
   */
  *push(chunk: Buffer): Generator<unknown, void, void> {
    this.#chunks.push(chunk);
    this.#heldBytes += chunk.length;
    if (this.#heldBytes < this.#neededBytes) return;
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#heldBytes);
    let offset = 0;
    this.#neededBytes = 0;
    while (offset < bytes.length) {
      const bodyStart = this.#bodyStart(bytes, offset);
      if (bodyStart === undefined) break;
      const header = bytes.toString('latin1', offset, bodyStart - HEADER_END.length);
      const end = bodyStart + bodyLength(header, this.#limitBytes);
      if (end > bytes.length) {
        this.#neededBytes = end - offset;
        break;
      }
      offset = end;
      yield parseBody(bytes.toString('utf8', bodyStart, end));
    }
    this.#heldBytes = bytes.length - offset;
    this.#chunks = this.#heldBytes === 0 ? [] : [bytes.subarray(offset)];
  }

  #bodyStart(bytes: Buffer, offset: number): number | undefined {
    const window = bytes.subarray(offset, offset + MAX_HEADER_BYTES);
    const end = window.indexOf(HEADER_END);
    if (end >= 0) return offset + end + HEADER_END.length;
    if (window.length === MAX_HEADER_BYTES)
      throw new FramingError('malformed', 'a message header without an end');
    return undefined;
  }
}

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new FramingError('malformed', 'a message that is not JSON');
  }
}
