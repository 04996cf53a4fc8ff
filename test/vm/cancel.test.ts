/**
 * Giving a creation up, at every step of it: nothing may be left. Beside the steps there are points spread over the whole:
 * interrupted and killed clients take turns at them; with `THOROUGH=1` both come at each.
 */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../../src/core/errors.ts';
import { connect, type RpcClient } from '../../src/rpc/client.ts';
import { makeRepo } from '../fixtures/make-repo.ts';
import { settled, TestHome } from '../helpers/test-home.ts';
import { atMoments } from '../helpers/thorough.ts';

/** Which of the points. */
const EVEN = [0, 2, 4, 6];
const ODD = [1, 3, 5, 7];
const POINTS = EVEN.length + ODD.length;

describe('a creation that is given up', () => {
  let home: TestHome;
  let repo: string;
  let wholeMs: number;
  let steps: readonly string[];

  before(async () => {
    home = new TestHome();
    repo = join(home.dir, 'repo');
    await makeRepo(repo, { files: 400, bytes: 4_000_000, commits: 2 });
    await home.ok(['vm', 'run', '--rm', '--', 'true']);
    // One that is not given up, for the steps there are and the time they take once everything is warm.
    using daemon = await Daemon.of(home);
    const seen = new Set<string>();
    const begun = performance.now();
    const { vm } = await daemon.client.call('vm.create', params(repo), {
      onProgress: ({ step }) => seen.add(step),
    });
    wholeMs = performance.now() - begun;
    steps = [...seen];
    await home.ok(['vm', 'delete', vm.id]);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('the steps of a creation are told', () => {
    assert.deepEqual(
      ['prepare_disk', 'start_vmm', 'boot', 'configure', 'workspace'].filter((step) => !steps.includes(step)),
      [],
    );
  });

  test('cancelled as each step begins', async () => {
    using daemon = await Daemon.of(home);
    for (const step of steps) {
      const abort = new AbortController();
      const call = daemon.client.call('vm.create', params(repo), {
        signal: abort.signal,
        onProgress: (progress) => {
          if (progress.step === step) abort.abort();
        },
      });
      await assert.rejects(call, (error) => error instanceof BangerError && error.code === 'cancelled', step);
      await home.assertNothingLeft();
    }
  });

  test('hung up on as each step begins', async () => {
    for (const step of steps) {
      using daemon = await Daemon.of(home);
      const call = daemon.client.call('vm.create', params(repo), {
        onProgress: (progress) => {
          if (progress.step === step) daemon.client.close();
        },
      });
      await assert.rejects(call, BangerError, step);
      await nothingLeftSoon(home);
    }
  });

  test('Ctrl-C at points spread over the whole of vm run --rm: 130 and nothing left', async () => {
    for (const delayMs of delays(wholeMs, atMoments(EVEN, ODD))) {
      const running = home.start(['vm', 'run', '--rm', repo, '--', 'sleep', '1000']);
      await sleep(delayMs);
      running.child.kill('SIGINT');
      const { status, signal, stderr } = await running.done;
      // Before banger listens to signals, and between creation and session, SIGINT simply ends it: 130 to a shell, too.
      assert.ok(status === 130 || signal === 'SIGINT', `after ${delayMs} ms: ${status} ${signal} ${stderr}`);
      await nothingLeftSoon(home);
    }
  });

  test('Ctrl-C in vm create: 130 and nothing left', async () => {
    for (const delayMs of delays(wholeMs, atMoments([2, 4], [3]))) {
      const running = home.start(['vm', 'create', repo]);
      await sleep(delayMs);
      running.child.kill('SIGINT');
      const { status, stderr } = await running.done;
      assert.equal(status, 130, `after ${delayMs} ms`);
      assert.match(stderr, /^banger: cancelled\n(\(operation [0-9a-f]{12}\)\n)?$/);
      await home.assertNothingLeft();
    }
  });

  test('a client that is killed, at points spread over vm run --rm: nothing left', async () => {
    for (const delayMs of delays(wholeMs, atMoments(ODD, EVEN))) {
      const running = home.start(['vm', 'run', '--rm', repo, '--', 'sleep', '1000']);
      await sleep(delayMs);
      running.child.kill('SIGKILL');
      assert.equal((await running.done).signal, 'SIGKILL');
      await nothingLeftSoon(home);
    }
  });

  test('hanging up ends a session of vm run --rm and deletes the VM', async () => {
    const running = home.start(['vm', 'run', '--rm', '--', 'sh', '-c', 'echo ready; sleep 1000']);
    await settled(() => running.stdout() === 'ready\n', 60_000);
    assert.equal(running.stdout(), 'ready\n');
    running.child.kill('SIGKILL');
    await running.done;
    await nothingLeftSoon(home);
  });

  test('operation cancel ends it, and its client says so', async () => {
    const running = home.start(['vm', 'create', '--name', 'given-up']);
    const find = () => home.json<readonly { id: string; subject: string | null }[]>(['operation', 'list']);
    await settled(async () => (await find()).some(({ subject }) => subject === 'given-up'));
    const operation = (await find()).find(({ subject }) => subject === 'given-up');
    assert.ok(operation, running.stderr());
    await home.ok(['operation', 'cancel', operation.id]);
    const { status, stderr } = await running.done;
    assert.equal(status, 130, stderr);
    await home.assertNothingLeft();
    assert.equal((await home.run(['operation', 'cancel', operation.id])).status, 1);
  });

  test('delete ends a creation under way', async () => {
    const running = home.start(['vm', 'create', '--name', 'deleted']);
    await settled(async () => (await home.vms()).some(({ name }) => name === 'deleted'));
    await home.ok(['vm', 'delete', 'deleted']);
    const { status, stderr } = await running.done;
    assert.notEqual(status, 0);
    assert.notEqual(stderr, '');
    await home.assertNothingLeft();
  });

  test('Ctrl-C while a stopped VM starts leaves it stopped, with its disk', async () => {
    await home.ok(['vm', 'create', '--name', 'kept']);
    await home.guest('kept', 'sh', '-c', 'echo mine > /root/file');
    await home.ok(['vm', 'stop', 'kept']);
    const running = home.start(['vm', 'start', 'kept']);
    await settled(async () => (await home.show('kept')).state === 'starting');
    running.child.kill('SIGINT');
    assert.equal((await running.done).status, 130);
    const { state, pid } = await home.show('kept');
    assert.deepEqual([state, pid], ['stopped', null]);
    await home.ok(['vm', 'start', 'kept']);
    assert.equal(await home.guest('kept', 'cat', '/root/file'), 'mine');
    await home.ok(['vm', 'delete', 'kept']);
  });
});

/** A connection of the kind that the CLI makes, for what has to happen at an exact moment. */
class Daemon implements Disposable {
  readonly client: RpcClient;

  private constructor(client: RpcClient) {
    this.client = client;
  }

  static async of(home: TestHome): Promise<Daemon> {
    await home.ok(['daemon', 'start']);
    const { socketPath, version } = await home.json<{ socketPath: string; version: string }>([
      'daemon',
      'status',
    ]);
    return new Daemon(await connect({ socketPath, version }));
  }

  [Symbol.dispose](): void {
    this.client.close();
  }
}

function params(repo: string) {
  return { workspace: { path: repo } };
}

/** From the first moments to beyond the end. */
function delays(wholeMs: number, indices: readonly number[]): readonly number[] {
  return indices.map((index) => Math.round(((index + 0.2) / (POINTS - 1)) * wholeMs));
}

/** Whoever gave it up does not wait for the daemon, which needs a moment. */
async function nothingLeftSoon(home: TestHome): Promise<void> {
  const daemon = await home.daemonPid();
  await settled(
    async () =>
      home.processes().every(({ pid }) => pid === daemon) &&
      home.leftovers().length === 0 &&
      (await home.vms()).length === 0,
  );
  await home.assertNothingLeft();
}
