/**
 * No two copies share a random number or a key. What reads the kernel's generator differs, also in a program that ran
 * before; a generator inside such a program that was seeded before cannot: nobody outside can reach it.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  assertDistinct,
  drop,
  fileOf,
  fork,
  forkOf,
  leaveRunning,
  snapshot,
  source,
} from '../../helpers/copies.ts';
import { TestHome } from '../../helpers/test-home.ts';
import { THOROUGH } from '../../helpers/thorough.ts';

const COPIES = THOROUGH ? 8 : 3;
/** Started before the copies are made; draws when it is told to. What it had drawn before is in every copy. */
const RUNTIME = `
import os, random, time
random.seed()
system = random.SystemRandom()
earlier = [random.random(), system.random()]
held = open('/dev/urandom', 'rb', buffering=0)
open('/dev/shm/ready', 'w').close()
while not os.path.exists('/dev/shm/draw'): time.sleep(0.05)
lines = [held.read(16).hex(), os.urandom(16).hex(), os.getrandom(16).hex(),
         open('/proc/sys/kernel/random/uuid').read().strip(), '%.17f' % system.random(), '%.17f' % random.random()]
open('/dev/shm/drawn.new', 'w').write('\\n'.join(lines))
os.rename('/dev/shm/drawn.new', '/dev/shm/drawn')
time.sleep(10000)
`;
const SOURCES = [
  'a descriptor of /dev/urandom opened before',
  'os.urandom',
  'getrandom(2)',
  'random/uuid',
  'SystemRandom',
] as const;

/** Whatever of it comes first, in a program that is started in the copy. */
const FRESH: readonly (readonly [string, string])[] = [
  ['/dev/urandom', 'head -c 16 /dev/urandom | od -An -tx1 | tr -d " \\n"'],
  ['/dev/random', 'head -c 16 /dev/random | od -An -tx1 | tr -d " \\n"'],
  ['random/uuid', 'cat /proc/sys/kernel/random/uuid'],
  ['ssh-keygen', 'rm -f /tmp/k; ssh-keygen -q -t ed25519 -N "" -f /tmp/k && cat /tmp/k.pub'],
  ['openssl', 'openssl rand -hex 16'],
  ['perl', 'perl -e "print rand"'],
  ['$RANDOM', 'bash -c "echo $RANDOM$RANDOM$RANDOM$RANDOM"'],
  ['AT_RANDOM', "python3 -c 'import random; print(random.random())'"],
];

describe('randomness of copies', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    await source(home);
    await leaveRunning(home, 'dev', RUNTIME);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test(`${COPIES} forks of a VM and their source`, async () => {
    const copies = await fork(home, 'dev', COPIES);
    await assertOwn(home, [...copies, 'dev']);
    await home.guest('dev', 'rm', '/dev/shm/draw', '/dev/shm/drawn');
    await drop(home, copies);
  });

  test(`${COPIES} VMs made of one snapshot, and what it is put back to, twice`, async () => {
    await home.guest('dev', 'pkill', 'python3');
    await leaveRunning(home, 'dev', RUNTIME);
    await snapshot(home, 'dev', 'then');
    const copies = await forkOf(home, 'then', COPIES);
    const drawn = await assertOwn(home, copies);
    for (const round of ['once', 'twice']) {
      await home.ok(['vm', 'snapshot', 'restore', 'then', '--force']);
      drawn.push(await draw(home, 'dev'));
      assertDrawnDiffer(drawn, round);
    }
    await drop(home, copies);
  });
});

interface Drawn {
  readonly fresh: readonly string[];
  readonly running: readonly string[];
}

async function assertOwn(home: TestHome, vms: readonly string[]): Promise<Drawn[]> {
  // The first thing that happens in each: a generator that was not seeded anew would show.
  const drawn: Drawn[] = [];
  for (const vm of vms) drawn.push(await draw(home, vm));
  assertDrawnDiffer(drawn, vms.join(', '));
  return drawn;
}

async function draw(home: TestHome, vm: string): Promise<Drawn> {
  const script = FRESH.map(([, command]) => `${command}; echo`).join('\n');
  const fresh = (await home.guest(vm, 'bash', '-c', `touch /dev/shm/draw\n${script}`))
    .split('\n')
    .filter((line) => line !== '');
  assert.equal(fresh.length, FRESH.length, fresh.join('\n'));
  return { fresh, running: (await fileOf(home, vm, '/dev/shm/drawn')).split('\n') };
}

function assertDrawnDiffer(drawn: readonly Drawn[], of: string): void {
  for (const [index, [what]] of FRESH.entries()) {
    assertDistinct(
      drawn.map(({ fresh }) => fresh[index] ?? ''),
      `${what} of ${of}`,
    );
  }
  for (const [index, what] of SOURCES.entries()) {
    assertDistinct(
      drawn.map(({ running }) => running[index] ?? ''),
      `${what} of ${of}`,
    );
  }
  // What cannot be: the test says so, so that the docs stay true.
  const seededBefore = drawn.map(({ running }) => running[SOURCES.length]);
  assert.equal(
    new Set(seededBefore).size,
    1,
    'a generator seeded before the copy differs: the docs say it cannot',
  );
}
