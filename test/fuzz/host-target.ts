/** Feeds one case to the whole host side of the channel and checks how it takes it. */

import assert from 'node:assert/strict';
import { type Duplex, duplexPair } from 'node:stream';
import { decodeClose, describeFailure, exitStatusOf } from '../../src/core/channel/close.ts';
import { FRAME_TYPES, FrameError, FrameParser } from '../../src/core/channel/frame.ts';
import { NONCE_BYTES, PREAMBLE_BYTES, PreambleScanner } from '../../src/core/channel/preamble.ts';
import { BangerError } from '../../src/core/errors.ts';
import { AgentClient } from '../../src/guest/agent-client.ts';
import { parseHealth, parseHello, parsePorts } from '../../src/guest/answers.ts';
import { relay } from '../../src/guest/relay.ts';
import { run } from '../../src/guest/run.ts';
import type { HostCase } from './host-case.ts';
import type { Random } from './random.ts';

/** Longer than any case takes; only a hang meets it. */
const NEVER_MS = 60_000;
const CONNECT_TIMEOUT_MS = 30_000;
const MAX_BUFFERED_BYTES = 24 * 1024 * 1024;
const MAX_PIECES = 60;
/** Refusing nonsense takes longer than making it. */
const MAX_JSON_PARSES = 10;
const EXPECTED_CODES = new Set([
  'channel_broken',
  'guest_failed',
  'limit_exceeded',
  'version_mismatch',
  'cancelled',
]);

/** How often each outcome came: shows that cases get far enough to be worth anything. */
export const outcomes = new Map<string, number>();

/**
 * @returns whether the conversation got past its opening
 * @throws anything but the errors that bad input may cause
 */
export async function runHostCase(one: HostCase, random: Random): Promise<boolean> {
  parseOnly(one, random);
  const [hostSide, guestSide] = duplexPair();
  guestSide.on('error', () => {});
  const nonce = takeNonce(guestSide);
  const connecting = AgentClient.connect(hostSide, {
    signal: new AbortController().signal,
    timeoutMs: CONNECT_TIMEOUT_MS,
  });
  const settled = outcome('connect', connecting);
  await feed(guestSide, withNonce(one.opening, await nonce), random);
  const client = await Promise.race([connecting.catch(() => undefined), turns(3)]);
  // Session opened and broken at once: nothing can be started any more.
  if (client === undefined || client.closeReason !== undefined) {
    guestSide.destroy();
    hostSide.destroy();
    await settled;
    return false;
  }
  await converse(client, guestSide, one, random);
  return true;
}

/** The parsers by themselves, cut in other places. */
function parseOnly(one: HostCase, random: Random): void {
  const scanner = new PreambleScanner();
  tolerate(() => {
    for (const piece of cut(one.opening, random)) if (scanner.push(piece) !== undefined) return;
  });
  let parsesLeft = MAX_JSON_PARSES;
  for (const bytes of [one.opening, one.body, one.client]) {
    const parser = new FrameParser();
    tolerate(() => {
      for (const piece of cut(bytes, random)) {
        for (const frame of parser.push(piece)) {
          if (frame.type === FRAME_TYPES.close) tolerate(() => judge(frame.payload));
          else if (looksLikeJson(frame.payload) && parsesLeft-- > 0) parseJson(frame.payload);
        }
      }
    });
  }
}

function parseJson(payload: Uint8Array): void {
  for (const parse of [parseHello, parseHealth, parsePorts]) tolerate(() => parse(payload));
}

function looksLikeJson(payload: Uint8Array): boolean {
  return payload[0] === 0x7b || payload[0] === 0x5b;
}

function judge(payload: Uint8Array): void {
  const result = decodeClose(payload);
  assert(exitStatusOf(result) <= 255);
  if (result.kind === 'failed') assert(describeFailure(result).length < 1000);
}

function tolerate(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof FrameError || isExpected(error))) throw error;
  }
}

function isExpected(error: unknown): boolean {
  return error instanceof BangerError && EXPECTED_CODES.has(error.code);
}

async function converse(
  client: AgentClient,
  guestSide: Duplex,
  one: HostCase,
  random: Random,
): Promise<void> {
  const [daemonSide, clientSide] = duplexPair();
  clientSide.on('error', () => {});
  if (random.chance(2)) clientSide.resume();
  const pending = [
    outcome('health', client.health()),
    outcome('ports', client.ports()),
    outcome('relay', relay(client.exec({ argv: ['a'], stdin: true }), daemonSide)),
    outcome('run', run(client, { argv: ['b'] }, { maxOutputBytes: 100_000, input: Buffer.alloc(600_000) })),
    outcome('sync', client.sync()),
  ];
  const unattached = client.exec({ argv: ['c'] });
  pending.push(outcome('unattached', unattached.result));
  const watch = (): void => {
    const bytes = client.bufferedBytes + daemonSide.writableLength;
    assert(bytes <= MAX_BUFFERED_BYTES, `${bytes} bytes are held`);
  };
  await Promise.all([feed(guestSide, one.body, random, watch), feed(clientSide, one.client, random, watch)]);
  await turns(2);
  if (random.chance(2)) unattached.attach({ data() {}, eof() {}, credit() {}, closed() {} });
  if (random.chance(4)) client.close();
  guestSide.destroy();
  clientSide.resume();
  client.close();
  await turns(2);
  clientSide.destroy();
  daemonSide.destroy();
  await Promise.all([...pending, client.closed]);
  assert.equal(client.openStreams, 0);
}

/** Waits for an operation; an error that the guest may cause is an answer. */
async function outcome(name: string, promise: Promise<unknown>): Promise<void> {
  const never = Promise.withResolvers<never>();
  const timer = setTimeout(() => never.reject(new Error(`${name} hangs`)), NEVER_MS);
  try {
    await Promise.race([promise, never.promise]);
    count(`${name} ok`);
  } catch (error) {
    if (!isExpected(error)) throw error;
    count(`${name} ${(error as BangerError).code}`);
  } finally {
    clearTimeout(timer);
  }
}

function count(what: string): void {
  outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
}

function takeNonce(guestSide: Duplex): Promise<Buffer> {
  return new Promise((resolve) => {
    let received = Buffer.alloc(0);
    guestSide.on('data', (chunk: Buffer) => {
      if (received.length >= PREAMBLE_BYTES) return;
      received = Buffer.concat([received, chunk]);
      if (received.length >= PREAMBLE_BYTES)
        resolve(received.subarray(PREAMBLE_BYTES - NONCE_BYTES, PREAMBLE_BYTES));
    });
  });
}

/** Puts the host's nonce in place of every nonce of zeros that follows a magic. */
function withNonce(opening: Buffer, nonce: Buffer): Buffer {
  const bytes = Buffer.from(opening);
  for (let at = bytes.indexOf(0xb4); at !== -1; at = bytes.indexOf(0xb4, at + 1)) {
    const target = bytes.subarray(at + PREAMBLE_BYTES - NONCE_BYTES, at + PREAMBLE_BYTES);
    if (target.length === NONCE_BYTES && target.every((byte) => byte === 0)) nonce.copy(target);
  }
  return bytes;
}

function* cut(bytes: Buffer, random: Random): Generator<Buffer> {
  const most = random.pick([1, 13, 300, 70_000, bytes.length + 1] as const);
  const atLeast = Math.ceil(bytes.length / MAX_PIECES);
  for (let from = 0; from < bytes.length; ) {
    const size = Math.max(1 + random.below(most), from > bytes.length / 2 ? atLeast : 1);
    yield Buffer.from(bytes.subarray(from, from + size));
    from += size;
    if (from > MAX_PIECES * most) {
      yield Buffer.from(bytes.subarray(from));
      return;
    }
  }
}

async function feed(target: Duplex, bytes: Buffer, random: Random, watch?: () => void): Promise<void> {
  for (const piece of cut(bytes, random)) {
    if (target.destroyed || target.writableEnded) return;
    target.write(piece);
    if (random.chance(3)) await turns(1);
    watch?.();
  }
}

async function turns(count: number): Promise<undefined> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
  return undefined;
}
