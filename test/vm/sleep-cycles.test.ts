/**
 * Many pauses and saves one after the other, each time with everything as it was. `CYCLES=100` for more of them; what they took
 * is printed.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestHome } from '../helpers/test-home.ts';

const CYCLES = Number(process.env['CYCLES'] ?? 6);
/** Counts in memory, and has a file open that has no name any more. */
const COUNTER = `
exec 3<>/root/nameless; rm /root/nameless; echo nameless >&3
i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count.new; mv /dev/shm/count.new /dev/shm/count; sleep 0.05; done
`;
const LOOK = `
pid=$(cat /root/pid); kill -0 $pid || echo gone
cat /dev/shm/count; cat /proc/$pid/fd/3; sha256sum < /root/data; date +%s%3N; cat /proc/sys/kernel/random/boot_id
n=$(cat /dev/shm/count); for i in 1 2 3 4 5 6 7 8 9 10; do [ $(cat /dev/shm/count) -gt $n ] && break; sleep 0.1; done
cat /dev/shm/count; echo again >> /root/data
`;
const CLOCK_BOUND_MS = 100;

interface Look {
  readonly count: number;
  readonly later: number;
  readonly same: readonly string[];
  readonly skewMs: number;
}

let home: TestHome;
before(async () => {
  home = TestHome.warm();
  await home.ok(['vm', 'run', '-d', '--name', 'dev', '--memory', '512M']);
  await home.ok(['vm', 'exec', 'dev', '--', 'sh', '-c', 'cat > /root/counter'], { input: COUNTER });
  await home.guest(
    'dev',
    'sh',
    '-c',
    'setsid sh /root/counter </dev/null >/dev/null 2>&1 & echo $! > /root/pid',
  );
  await home.guest(
    'dev',
    'sh',
    '-c',
    'head -c 8M /dev/urandom > /root/data; until [ -e /dev/shm/count ]; do sleep 0.1; done',
  );
});
after(async () => {
  await home[Symbol.asyncDispose]();
});

async function look(): Promise<Look> {
  const earliest = Date.now();
  const output = (await home.guest('dev', 'sh', '-c', LOOK)).split('\n');
  const latest = Date.now();
  const [count, nameless = '', digest = '', time, bootId = '', later] = output;
  const guest = Number(time);
  const skewMs = Math.max(earliest - guest, guest - latest, 0);
  return {
    count: Number(count),
    later: Number(later),
    same: [nameless, bootId, String(digest.length)],
    skewMs,
  };
}

/** Of what the guest appends to, each time. */
async function digest(): Promise<string> {
  return await home.guest('dev', 'sha256sum', '/root/data');
}

test(`${CYCLES} cycles of pause and save lose nothing`, { timeout: CYCLES * 60_000 }, async () => {
  const failures: string[] = [];
  const took: Record<string, number[]> = { pause: [], 'pause --save': [] };
  let last = await look();
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    const how = cycle % 2 === 0 ? ['vm', 'pause', 'dev'] : ['vm', 'pause', '--save', 'dev'];
    const before = await digest();
    const began = performance.now();
    await home.ok(how);
    await home.ok(['vm', 'resume', 'dev']);
    took[cycle % 2 === 0 ? 'pause' : 'pause --save']?.push(performance.now() - began);
    const after = await digest();
    const now = await look();
    const wrong = [
      before === after || 'another file',
      now.count >= last.later || `the count fell from ${last.later} to ${now.count}`,
      now.later > now.count || 'the program stands still',
      now.same.join(' ') === last.same.join(' ') || `${now.same.join(' ')} for ${last.same.join(' ')}`,
      now.skewMs <= CLOCK_BOUND_MS || `the clock is ${now.skewMs} ms wrong`,
    ].filter((one) => one !== true);
    if (wrong.length > 0) failures.push(`cycle ${cycle}, ${how.slice(1).join(' ')}: ${wrong.join(', ')}`);
    last = now;
  }
  for (const [how, all] of Object.entries(took)) console.log(`${how} and resume: ${summary(all)}`);
  assert.deepEqual(failures, []);
});

function summary(all: readonly number[]): string {
  const sorted = all.toSorted((a, b) => a - b).map(Math.round);
  const at = (share: number): number => sorted[Math.floor((sorted.length - 1) * share)] ?? 0;
  return `${sorted.length} times, ${at(0)} to ${at(1)} ms, half of them within ${at(0.5)} ms`;
}
