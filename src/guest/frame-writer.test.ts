import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { encodeFrame, FRAME_TYPES, HEADER_BYTES } from '../core/channel/frame.ts';
import { FrameWriter } from './frame-writer.ts';

/** Takes writes one by one, each only when told. */
class SlowSink extends Writable {
  readonly taken: Buffer[] = [];
  writes = 0;
  #release: (() => void) | undefined;

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.writes++;
    for (const { chunk } of chunks) this.taken.push(chunk);
    this.#release = done;
  }

  release(): boolean {
    const release = this.#release;
    this.#release = undefined;
    release?.();
    return release !== undefined;
  }
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

test('the frames of one turn leave in one write', async () => {
  const sink = new SlowSink();
  const writer = new FrameWriter(sink);
  for (let i = 0; i < 10; i++) writer.write(FRAME_TYPES.data, 1, 1, Buffer.from(`frame ${i};`));
  await turn();
  assert.equal(sink.writes, 1);
  assert.equal(Buffer.concat(sink.taken).toString().split(';').length, 11);
});

test('a full sink is congestion, and emptying it ends it', async () => {
  const sink = new SlowSink();
  const writer = new FrameWriter(sink);
  const sent: Buffer[] = [];
  let writable = 0;
  for (let i = 0; i < 20; i++) {
    const bytes = Buffer.alloc(30_000, i);
    sent.push(Buffer.from(encodeFrame(FRAME_TYPES.data, 1, 1, bytes)));
    writer.write(FRAME_TYPES.data, 1, 1, bytes);
  }
  await turn();
  assert(writer.congested);
  assert.equal(writer.bufferedBytes, 20 * (30_000 + HEADER_BYTES));
  writer.whenWritable(() => {
    writable++;
  });
  await turn();
  assert.equal(writable, 0);
  while (sink.release()) await turn();
  assert.equal(writable, 1);
  assert.equal(writer.bufferedBytes, 0);
  assert(Buffer.concat(sent).equals(Buffer.concat(sink.taken)));
});

test('end comes after what was queued, and nothing is written after it', async () => {
  const sink = new SlowSink();
  const writer = new FrameWriter(sink);
  for (let i = 0; i < 10; i++) writer.write(FRAME_TYPES.data, 1, 1, Buffer.alloc(50_000, i));
  writer.end();
  writer.write(FRAME_TYPES.eof, 1, 1);
  const finished = once(sink, 'finish');
  await turn();
  while (sink.release()) await turn();
  await finished;
  assert.equal(Buffer.concat(sink.taken).length, 10 * (50_000 + HEADER_BYTES));
});

test('what is discarded is not written', async () => {
  const sink = new SlowSink();
  const writer = new FrameWriter(sink);
  writer.write(FRAME_TYPES.eof, 1, 1);
  writer.discard();
  await turn();
  assert.equal(sink.taken.length, 0);
  assert.equal(writer.bufferedBytes, 0);
});
