/** Mutations of a case that know what frames and JSON look like. */

import {
  encodeFrame,
  encodeU32,
  FRAME_TYPES,
  type FrameType,
  HEADER_BYTES,
} from '../../src/core/channel/frame.ts';
import { type HostCase, STREAMS } from './host-case.ts';
import type { Random } from './random.ts';

const MAX_CASE_BYTES = 2 * 1024 * 1024;
const MAX_REPEATED_BYTES = 1024 * 1024;
const NUMBERS = [
  0, 1, 2, 4, 5, 64, 65, 127, 255, 256, 1023, 1024, 1029, 1030, 65535, 65536, 65537, 262144, 524287, 524288,
  524289, 1048576, 1048577, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
] as const;
const TYPES = Object.values(FRAME_TYPES) as [FrameType, ...FrameType[]];
const STREAM_NUMBERS = [0, ...Object.values(STREAMS), 7, 512, 0xffffffff] as const;
const JSON_PIECES = [
  'null',
  'true',
  '""',
  '[]',
  '{}',
  '-1',
  '1e999',
  '0.5',
  '9007199254740993',
  '{"__proto__":null}',
  '[[[[[[[[',
  '"\\u0000"',
  '"\\ud800"',
  '"\\u001b[2J"',
  ',',
  '}',
  '{',
  '"'.repeat(3),
  `"${'x'.repeat(5000)}"`,
] as const;

/** One to a few changes of one or more parts. */
export function mutate(random: Random, one: HostCase, other: HostCase): HostCase {
  const changed = { ...one };
  const count = 1 + random.below(random.pick([1, 3, 10]));
  for (let i = 0; i < count; i++) {
    const part = random.chance(15) ? 'opening' : random.pick(['body', 'body', 'client'] as const);
    changed[part] = mutatePart(random, changed[part], other[part]).subarray(0, MAX_CASE_BYTES);
  }
  return changed;
}

function mutatePart(random: Random, bytes: Buffer, other: Buffer): Buffer {
  if (random.chance(4)) return mutateBytes(random, bytes, other);
  const frames = split(bytes);
  const at = random.below(frames.length + 1);
  const frame = frames[at];
  switch (random.below(8)) {
    case 0:
      frames.splice(at, 1);
      break;
    case 1:
      frames.splice(at, 0, ...someFrames(random));
      break;
    case 2:
      if (frame !== undefined) frames.splice(random.below(frames.length), 0, frame);
      break;
    case 3:
      frames.splice(at, 0, ...split(other).slice(0, random.below(20)));
      break;
    case 4:
      if (frame !== undefined) frames[at] = mutateJson(random, frame);
      break;
    case 5:
      frames.length = at;
      break;
    default:
      if (frame !== undefined) frames[at] = mutateFrame(random, frame);
  }
  return Buffer.concat(frames).subarray(0, MAX_CASE_BYTES);
}

/** Frames as far as the lengths make sense; what does not is one more piece. */
function split(bytes: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  let offset = 0;
  while (bytes.length - offset >= HEADER_BYTES) {
    const end = offset + HEADER_BYTES + bytes.readUInt32LE(offset);
    if (end > bytes.length) break;
    frames.push(bytes.subarray(offset, end));
    offset = end;
  }
  if (offset < bytes.length) frames.push(bytes.subarray(offset));
  return frames;
}

/** One frame once, a few times, or until it must run out of credit. */
function someFrames(random: Random): Buffer[] {
  const frame = anyFrame(random);
  const most = Math.min(random.pick([1, 5, 2000]), Math.ceil(MAX_REPEATED_BYTES / frame.length));
  return Array.from({ length: 1 + random.below(most) }, () => frame);
}

function anyFrame(random: Random): Buffer {
  const type = random.pick(TYPES);
  const channel = random.below(3);
  const stream = random.pick(STREAM_NUMBERS);
  const size = type === FRAME_TYPES.data ? random.pick([1, 2, 100, 65535, 65536] as const) : 4;
  if (type === FRAME_TYPES.eof || type === FRAME_TYPES.reset) {
    return Buffer.from(encodeFrame(type, stream, type === FRAME_TYPES.eof ? channel : 0));
  }
  if (type === FRAME_TYPES.close) {
    const payload = Buffer.concat([
      Buffer.from([random.below(4)]),
      encodeU32(random.pick(NUMBERS)),
      random.bytes(3),
    ]);
    return Buffer.from(encodeFrame(type, stream, 0, payload));
  }
  const payload = size === 4 ? encodeU32(random.pick(NUMBERS)) : Buffer.alloc(size, random.below(256));
  const hasChannel = type === FRAME_TYPES.data || type === FRAME_TYPES.window;
  return Buffer.from(encodeFrame(type, stream, hasChannel ? channel : 0, payload));
}

/** Changes one field of a frame's header or the length of its payload. */
function mutateFrame(random: Random, original: Buffer): Buffer {
  const frame = Buffer.from(original);
  if (frame.length < HEADER_BYTES) return random.bytes(random.below(40));
  switch (random.below(6)) {
    case 0:
      frame[4] = random.pick(TYPES);
      return frame;
    case 1:
      frame[5] = random.below(5);
      return frame;
    case 2:
      frame.writeUInt32LE(random.pick(STREAM_NUMBERS), 8);
      return frame;
    case 3:
      frame.writeUInt32LE(random.pick(NUMBERS), 0);
      return frame;
    case 4:
      if (frame.length >= HEADER_BYTES + 4) frame.writeUInt32LE(random.pick(NUMBERS), HEADER_BYTES);
      return frame;
    default: {
      const fill = frame.length > HEADER_BYTES ? frame.subarray(HEADER_BYTES) : 'x';
      const payload = Buffer.alloc(random.pick(NUMBERS) % 70_000, fill);
      frame.writeUInt32LE(payload.length, 0);
      return Buffer.concat([frame.subarray(0, HEADER_BYTES), payload]);
    }
  }
}

/** Replaces a stretch of a payload's text by a piece of JSON, and keeps the length right. */
function mutateJson(random: Random, frame: Buffer): Buffer {
  if (frame.length <= HEADER_BYTES) return frame;
  const text = frame.toString('latin1', HEADER_BYTES);
  const marks = [...text.matchAll(/[[\]{}:,]/g)].map((match) => match.index);
  const from = marks[random.below(marks.length)] ?? random.below(text.length);
  const to = marks.find((mark) => mark > from) ?? text.length;
  const changed = text.slice(0, from + random.below(2)) + random.pick(JSON_PIECES) + text.slice(to);
  const result = Buffer.concat([frame.subarray(0, HEADER_BYTES), Buffer.from(changed, 'latin1')]);
  result.writeUInt32LE(result.length - HEADER_BYTES, 0);
  return result;
}

function mutateBytes(random: Random, bytes: Buffer, other: Buffer): Buffer {
  const at = random.below(bytes.length + 1);
  const length = random.below(random.pick([2, 40, 5000]));
  const head = bytes.subarray(0, at);
  const tail = bytes.subarray(at);
  switch (random.below(6)) {
    case 0:
      return Buffer.concat([head, random.bytes(length), tail]);
    case 1:
      return Buffer.concat([head, tail.subarray(length)]);
    case 2:
      return Buffer.concat([head, tail.subarray(0, length), tail]);
    case 3:
      return Buffer.concat([head, other.subarray(random.below(other.length + 1))]);
    case 4: {
      const copy = Buffer.from(bytes);
      if (at < copy.length) copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
      return copy;
    }
    default:
      return Buffer.from(head);
  }
}
