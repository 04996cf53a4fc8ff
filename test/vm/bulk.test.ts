/** Many bytes through programs in a guest: none lost, memory flat on this side, and a slow reader slows only its writer. */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import type { Readable, Writable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { peakMib, anonymousMib } from '../helpers/memory.ts';
import { settled, TestHome } from '../helpers/test-home.ts';

const MIB = 1024 * 1024;
const SIZE_MIB = 64;
/** Less than what goes through, more than what buffers and garbage take. */
const FLAT_MIB = 40;

describe('bulk', () => {
  let home: TestHome;
  let daemon: number;
  before(async () => {
    home = TestHome.warm();
    await home.ok(['vm', 'run', '-d', '--name', 'dev']);
    // As much as each test sends goes through once: what is loaded on first use, and the room that the garbage collector
    // takes for a stream (30 to 50 MiB, depending on when it runs) and keeps, do not count. A leak adds to that each time.
    await home.ok(['vm', 'exec', 'dev', '--', 'head', '-c', `${SIZE_MIB}M`, '/dev/zero']);
    await home.run(['vm', 'exec', 'dev', '--', 'wc', '-c'], { input: Buffer.alloc(SIZE_MIB * MIB) });
    daemon = await home.daemonPid();
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test(`${SIZE_MIB} MiB out of the guest`, async () => {
    const before = anonymousMib(daemon);
    const script = `dd if=/dev/urandom of=/root/bulk bs=1M count=${SIZE_MIB} status=none; sha256sum < /root/bulk`;
    const expected = await home.guest('dev', 'sh', '-c', script);
    const running = home.start(['vm', 'exec', 'dev', '--', 'cat', '/root/bulk'], { holdOutput: true });
    const peak = watchPeak(running.child.pid);
    assert.equal(`${await digest(running.child.stdout)}  -`, expected);
    assert.equal((await running.done).status, 0);
    assertFlat(peak(), before, daemon);
  });

  test(`${SIZE_MIB} MiB into the guest`, async () => {
    const before = anonymousMib(daemon);
    const running = home.start(['vm', 'exec', 'dev', '--', 'sha256sum'], { keepInput: true });
    const peak = watchPeak(running.child.pid);
    const hash = createHash('sha256');
    const block = randomBytes(MIB);
    for (let count = 0; count < SIZE_MIB; count += 1) {
      block.writeUInt32LE(count);
      hash.update(block);
      await written(running.child.stdin, block);
    }
    running.child.stdin.end();
    const { status, stdout } = await running.done;
    assert.equal(status, 0);
    assert.equal(stdout.toString(), `${hash.digest('hex')}  -\n`);
    assertFlat(peak(), before, daemon);
  });

  test('a reader that does not read stops the writer in the guest, and nobody else', async () => {
    const before = anonymousMib(daemon);
    const script = `head -c ${SIZE_MIB}M /dev/zero; echo sent >&2`;
    const running = home.start(['vm', 'exec', 'dev', '--', 'sh', '-c', script], { holdOutput: true });
    const peak = watchPeak(running.child.pid);
    await settled(() => running.child.stdout.readableLength > 0);
    for (let round = 0; round < 5; round += 1) {
      assert.equal(await home.guest('dev', 'echo', String(round)), String(round));
    }
    assert.equal(await home.guest('dev', 'pgrep', '-xc', 'head'), '1', 'the writer is still at it');
    assert.equal(running.stderr(), '');
    assertFlat(peak(), before, daemon);
    let received = 0;
    for await (const chunk of running.child.stdout) received += (chunk as Buffer).length;
    assert.equal(received, SIZE_MIB * MIB);
    const { status, stderr } = await running.done;
    assert.deepEqual([status, stderr], [0, 'sent\n']);
  });

  test('a program that does not read stops the writer here, and nobody else', async () => {
    await home.guest('dev', 'mkfifo', '/root/gate');
    const before = anonymousMib(daemon);
    const script = 'read go < /root/gate; wc -c';
    const running = home.start(['vm', 'exec', 'dev', '--', 'sh', '-c', script], { keepInput: true });
    const peak = watchPeak(running.child.pid);
    let offered = 0;
    const offer = (async () => {
      const block = Buffer.alloc(MIB);
      for (; offered < SIZE_MIB; offered += 1) await written(running.child.stdin, block);
      running.child.stdin.end();
    })();
    await stopsGrowing(() => offered);
    assert.ok(offered < SIZE_MIB / 2, `${offered} MiB were taken though nobody reads`);
    for (let round = 0; round < 5; round += 1) {
      assert.equal(await home.guest('dev', 'echo', String(round)), String(round));
    }
    assertFlat(peak(), before, daemon);
    await home.guest('dev', 'sh', '-c', 'echo go > /root/gate');
    await offer;
    const { status, stdout } = await running.done;
    assert.deepEqual([status, stdout.toString()], [0, `${SIZE_MIB * MIB}\n`]);
  });

  test('two bulk streams and small commands beside each other', async () => {
    const count = (program: string) => home.guest('dev', 'sh', '-c', `head -c 8M /dev/zero | ${program}`);
    const out = home.run(['vm', 'exec', 'dev', '--', 'head', '-c', '8M', '/dev/zero']);
    const into = home.run(['vm', 'exec', 'dev', '--', 'wc', '-c'], { input: Buffer.alloc(8 * MIB) });
    assert.equal(await count('wc -c'), String(8 * MIB));
    assert.equal((await out).stdout.length, 8 * MIB);
    assert.equal((await into).stdout.toString(), `${8 * MIB}\n`);
  });
});

async function digest(stream: Readable): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function written(stream: Writable, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    stream.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

/** Resolves once the value has been the same for a while. */
async function stopsGrowing(value: () => number): Promise<void> {
  let last = -1;
  while (value() !== last) {
    last = value();
    await sleep(700);
  }
}

/** The most that the client had so far; it may be gone by now, so it is looked at while it runs. */
function watchPeak(pid: number | undefined): () => number {
  assert.ok(pid !== undefined);
  let peak = 0;
  const look = (): void => {
    try {
      peak = peakMib(pid);
    } catch {
      clearInterval(timer);
    }
  };
  const timer = setInterval(look, 50);
  timer.unref();
  return () => {
    look();
    return peak;
  };
}

/** A bare client has about 60 MiB. */
function assertFlat(clientPeakMib: number, daemonBeforeMib: number, daemon: number): void {
  assert.ok(clientPeakMib > 0);
  assert.ok(clientPeakMib < 70 + FLAT_MIB, `the client had ${clientPeakMib} MiB`);
  const grownMib = anonymousMib(daemon) - daemonBeforeMib;
  assert.ok(grownMib < FLAT_MIB, `the daemon has ${grownMib} MiB more than before`);
}
