/** What the fuzzer of the host side feeds in one case, and the valid conversations it starts from. */

import { encodeClose } from '../../src/core/channel/close.ts';
import { encodeFrame, encodeSize, encodeU32, FRAME_TYPES } from '../../src/core/channel/frame.ts';
import { encodePreamble, NONCE_BYTES } from '../../src/core/channel/preamble.ts';
import { FAKE_HELLO } from '../helpers/fake-guest.ts';

export interface HostCase {
  /** From the guest, up to its hello. A nonce of zeros is replaced by the one the host has chosen. */
  readonly opening: Buffer;
  /** From the guest, once the host has opened its streams (STREAMS). */
  readonly body: Buffer;
  /** From the client of the relayed stream. */
  readonly client: Buffer;
}

/** The streams the target opens, in this order. */
export const STREAMS = { health: 1, ports: 2, relayed: 3, run: 4, sync: 5, unattached: 6 } as const;

/** u32 length and bytes of each part. */
export function encodeCase(one: HostCase): Buffer {
  const parts = [one.opening, one.body, one.client];
  return Buffer.concat(parts.flatMap((part) => [Buffer.from(encodeU32(part.length)), part]));
}

/** Takes any bytes: a part that is cut off is what there is of it. */
export function decodeCase(bytes: Buffer): HostCase {
  let offset = 0;
  const part = (): Buffer => {
    if (bytes.length - offset < 4) return Buffer.alloc(0);
    const end = Math.min(bytes.length, offset + 4 + bytes.readUInt32LE(offset));
    const content = bytes.subarray(offset + 4, end);
    offset = end;
    return content;
  };
  return { opening: part(), body: part(), client: part() };
}

const { data, eof, window, signal, resize, reset, close, hello } = FRAME_TYPES;
const HEALTH = {
  uptimeMs: 5,
  bootId: FAKE_HELLO.bootId,
  memoryTotalKib: 500_000,
  memoryAvailableKib: 400_000,
  load1: 0.25,
  processes: 30,
  diskTotalBytes: 8 * 2 ** 30,
  diskFreeBytes: 7 * 2 ** 30,
  init: 'agent',
  configured: true,
};
const PORTS = [
  { protocol: 'tcp', address: '0.0.0.0', port: 22, pid: 7, process: 'sshd' },
  { protocol: 'udp', address: '::', port: 53, pid: null, process: null },
];

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function opening(leftovers: Buffer, text: Buffer = json(FAKE_HELLO)): Buffer {
  return Buffer.concat([
    leftovers,
    encodePreamble(new Uint8Array(NONCE_BYTES)),
    encodeFrame(hello, 0, 0, text),
  ]);
}

function closed(stream: number, status = 0): Uint8Array {
  return encodeFrame(close, stream, 0, encodeClose({ kind: 'done', status }));
}

function failed(stream: number, errno: number, text: string): Uint8Array {
  return encodeFrame(close, stream, 0, encodeClose({ kind: 'failed', errno, text }));
}

function repeated(count: number, bytes: Uint8Array): Uint8Array[] {
  return Array.from({ length: count }, () => bytes);
}

/** Conversations without a fault. */
export function validCases(): HostCase[] {
  const s = STREAMS;
  const answers = [
    encodeFrame(data, s.health, 1, json(HEALTH)),
    closed(s.health),
    encodeFrame(data, s.ports, 1, json(PORTS)),
    closed(s.ports),
  ];
  const quick: HostCase = {
    opening: opening(Buffer.alloc(0)),
    body: Buffer.concat([
      ...answers,
      encodeFrame(data, s.relayed, 1, Buffer.from('out')),
      encodeFrame(data, s.relayed, 2, Buffer.from('err')),
      encodeFrame(window, s.relayed, 0, encodeU32(6)),
      encodeFrame(eof, s.relayed, 1),
      encodeFrame(data, s.unattached, 1, Buffer.from('early')),
      closed(s.relayed, 7),
      encodeFrame(data, s.run, 1, Buffer.alloc(200, 'r')),
      closed(s.run),
      closed(s.sync),
      closed(s.unattached),
    ]),
    client: Buffer.concat([
      encodeFrame(resize, 1, 0, encodeSize(24, 80)),
      encodeFrame(data, 1, 0, Buffer.from('input')),
      encodeFrame(signal, 1, 0, encodeU32(2)),
      encodeFrame(eof, 1, 0),
    ]),
  };
  const full: HostCase = {
    opening: opening(Buffer.from('leftovers \u00b4BNGR of an earlier session')),
    body: Buffer.concat([
      ...repeated(8, encodeFrame(data, s.relayed, 1, Buffer.alloc(65536, 'o'))),
      ...repeated(8, encodeFrame(data, s.unattached, 2, Buffer.alloc(65536, 'e'))),
      ...repeated(300, encodeFrame(data, s.relayed, 2, Buffer.from('x'))),
      ...repeated(20, encodeFrame(window, s.relayed, 0, encodeU32(100))),
      encodeFrame(window, s.run, 0, encodeU32(262144)),
      ...answers,
    ]),
    client: Buffer.concat(repeated(8, encodeFrame(data, 1, 0, Buffer.alloc(65536, 'i')))),
  };
  const failing: HostCase = {
    opening: opening(Buffer.alloc(100, 0xb4), json({ ...FAKE_HELLO, mounted: false, error: 'no root disk' })),
    body: Buffer.concat([
      failed(s.health, 22, 'bad-request: unknown operation'),
      failed(s.ports, 12, 'internal: Out of memory'),
      failed(s.run, 2, 'spawn: No such file or directory'),
      failed(s.sync, 5, 'internal: \u001b[31mI/O error'),
      encodeFrame(close, s.relayed, 0, encodeClose({ kind: 'signaled', signal: 9 })),
    ]),
    client: Buffer.concat([encodeFrame(reset, 1)]),
  };
  return [quick, full, failing];
}
