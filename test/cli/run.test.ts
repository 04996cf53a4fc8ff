import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmCreated } from '../../src/api/results/vm.ts';
import type { WorkspaceReport } from '../../src/api/results/workspace.ts';
import { BangerError } from '../../src/core/errors.ts';
import { NO_TOOLS } from '../../src/core/toolingplan/plan.ts';
import { type Answers, fakeCli, fakeDetail, fakeVm } from './fake-cli.ts';

const workspace: WorkspaceReport = {
  guestPath: '/root/repo',
  sourcePath: '/home/dev/project',
  headCommit: 'c'.repeat(40),
  branch: null,
  files: 3,
  bytes: 2048,
  untrackedLeft: 0,
};

function created(changes: Partial<VmCreated> = {}): VmCreated {
  return { vm: fakeVm('dev'), workspace: null, tools: null, elapsedMs: 1400, ...changes };
}

const answers: Answers = {
  'vm.create': () => created(),
  'vm.delete': () => fakeVm('dev', { state: 'stopped' }),
  'vm.show': () => fakeDetail('dev'),
};

const id = fakeVm('dev').id;

test('run --rm -- true off a terminal prints nothing, deletes the VM and waits for that', async () => {
  const events: string[] = [];
  const result = await fakeCli(['vm', 'run', '--rm', '--', 'true'], {
    answers: {
      ...answers,
      'vm.delete': async () => {
        await new Promise((resolve) => setImmediate(resolve));
        events.push('deleted');
        return fakeVm('dev');
      },
    },
    session: async (_client, params) => {
      events.push(`session ${params.argv.join(' ')}`);
      return 0;
    },
  });
  assert.equal(result.status, 0);
  assert.equal(result.stdout + result.stderr, '');
  assert.deepEqual(result.calls, [
    { method: 'vm.create', params: { ephemeral: true } },
    { method: 'vm.delete', params: { ref: id } },
  ]);
  assert.deepEqual(events, ['session true', 'deleted']);
  assert.equal(result.closes, 1);
  assert.equal(result.heldInterruptions, 0);
});

test('the exit status is the command’s own, and --rm deletes after a failure too', async () => {
  for (const status of [0, 1, 7, 126, 127, 143]) {
    const result = await fakeCli(['vm', 'run', '--rm', '--', 'x'], { answers, session: async () => status });
    assert.equal(result.status, status);
    assert.equal(result.calls.at(-1)?.method, 'vm.delete');
  }
});

test('a command runs in the copied repo, a shell too', async () => {
  for (const argv of [['.'], ['.', '--', 'make']]) {
    let cwd: string | undefined;
    await fakeCli(['vm', 'run', ...argv], {
      answers: { ...answers, 'vm.create': () => created({ workspace }) },
      session: async (_client, params) => {
        cwd = params.cwd;
        return 0;
      },
    });
    assert.equal(cwd, '/root/repo');
  }
});

test('a reminder after a plain session, none with --rm and none when the VM is gone', async () => {
  const plain = await fakeCli(['vm', 'run'], { answers });
  assert.match(plain.stderr, /^VM "dev" is still running\./);
  const removed = await fakeCli(['vm', 'run', '--rm'], { answers });
  assert.equal(removed.stderr, '');
  const poweredOff = await fakeCli(['vm', 'run'], {
    answers: { ...answers, 'vm.show': () => fakeDetail('dev', { state: 'stopped' }) },
  });
  assert.equal(poweredOff.stderr, '');
  const command = await fakeCli(['vm', 'run', '--', 'true'], { answers });
  assert.equal(command.stderr, '');
});

test('on a terminal: the spec and the time it took', async () => {
  const { stderr } = await fakeCli(['vm', 'run', '--rm', '--', 'true'], { answers, stderrIsTTY: true });
  assert.match(stderr, /^spec: 4 vcpu \| 8192 MiB \| 8G disk\ndev: ready in 1\.4s\n/);
});

test('detached: the name on stdout, or the whole answer as JSON', async () => {
  const plain = await fakeCli(['vm', 'run', '-d'], { answers, session: () => assert.fail('no session') });
  assert.equal(plain.status, 0);
  assert.equal(plain.stdout, 'dev\n');
  assert.equal(plain.stderr, '');
  const json = await fakeCli(['vm', 'run', '-d', '--json'], { answers });
  assert.deepEqual(JSON.parse(json.stdout), created());
});

test('a notice when untracked files stayed behind', async () => {
  const noticeFor = async (untrackedLeft: number) => {
    const { stderr } = await fakeCli(['vm', 'run', '.', '--', 'true'], {
      answers: { ...answers, 'vm.create': () => created({ workspace: { ...workspace, untrackedLeft } }) },
    });
    return stderr;
  };
  assert.equal(await noticeFor(0), '');
  assert.equal(
    await noticeFor(1),
    'banger: 1 untracked file was not copied (--include-untracked copies them)\n',
  );
  assert.equal(
    await noticeFor(5),
    'banger: 5 untracked files were not copied (--include-untracked copies them)\n',
  );
});

test('--dry-run lists the files and creates nothing', async () => {
  const shipped = { mode: 'shallow_overlay' as const, tools: NO_TOOLS, paths: ['a', 'b/c'] };
  const plan = { ...workspace, ...shipped, untrackedLeft: 2 };
  const result = await fakeCli(['vm', 'run', '.', '--dry-run'], {
    answers: { 'workspace.plan': () => plan },
  });
  assert.equal(result.status, 0);
  assert.equal(result.stdout, 'a\nb/c\n');
  assert.equal(
    result.stderr,
    '3 files, 2 KiB, from /home/dev/project at cccccccccccc to /root/repo (mode shallow_overlay); 2 untracked left out\n',
  );
  assert.deepEqual(
    result.calls.map(({ method }) => method),
    ['workspace.plan'],
  );
});

test('when banger fails: 125 with a command, 1 without one', async () => {
  const failing: Answers = {
    'vm.create': () => {
      throw new BangerError('vmm_failed', 'qemu ended at once', {
        hint: 'banger vm logs',
        operationId: 'abc',
      });
    },
  };
  const command = await fakeCli(['vm', 'run', '--', 'true'], { answers: failing });
  assert.equal(command.status, 125);
  assert.equal(command.stderr, 'banger: qemu ended at once\nbanger vm logs\n(operation abc)\n');
  const shell = await fakeCli(['vm', 'run'], { answers: failing });
  assert.equal(shell.status, 1);
  const json = await fakeCli(['vm', 'run', '--json', '--', 'true'], { answers: failing });
  assert.deepEqual(JSON.parse(json.stderr), {
    error: { code: 'vmm_failed', message: 'qemu ended at once', hint: 'banger vm logs', operationId: 'abc' },
  });
});

test('a broken session: 125, --rm still deletes, without --rm it is said that the VM stays', async () => {
  const session = async (): Promise<number> => {
    throw new BangerError('channel_broken', 'the daemon hung up');
  };
  const removed = await fakeCli(['vm', 'run', '--rm', '--', 'x'], { answers, session });
  assert.equal(removed.status, 125);
  assert.equal(removed.calls.at(-1)?.method, 'vm.delete');
  const kept = await fakeCli(['vm', 'run', '--', 'x'], { answers, session });
  assert.equal(kept.status, 125);
  assert.match(kept.stderr, /still running/);
});

test('a deletion that fails is told; the command’s own failure wins over its status', async () => {
  const failing: Answers = {
    ...answers,
    'vm.delete': () => {
      throw new BangerError('io_error', 'cannot remove the disk');
    },
  };
  const afterSuccess = await fakeCli(['vm', 'run', '--rm', '--', 'x'], { answers: failing });
  assert.equal(afterSuccess.status, 125);
  assert.match(afterSuccess.stderr, /^banger: cannot remove the disk\n/);
  const afterFailure = await fakeCli(['vm', 'run', '--rm', '--', 'x'], {
    answers: failing,
    session: async () => 3,
  });
  assert.equal(afterFailure.status, 3);
});

test('Ctrl-C while creating cancels, waits for the daemon to confirm, and ends with 130', async () => {
  let interrupt = () => {};
  let confirmed = false;
  const result = await fakeCli(['vm', 'run', '--', 'true'], {
    onInterruptible: (trigger) => {
      interrupt = trigger;
    },
    answers: {
      'vm.create': (_params, { signal }) =>
        new Promise((_resolve, reject) => {
          signal?.addEventListener('abort', () => {
            setImmediate(() => {
              confirmed = true;
              reject(new BangerError('cancelled', 'cancelled'));
            });
          });
          interrupt();
        }),
    },
    session: () => assert.fail('no session after cancelling'),
  });
  assert.equal(confirmed, true);
  assert.equal(result.status, 130);
  assert.equal(result.stderr, 'banger: cancelled\n');
  assert.equal(result.heldInterruptions, 0);
});

test('the signal of Ctrl-C is the session’s own while it runs', async () => {
  let held = 0;
  await fakeCli(['vm', 'run', '--', 'true'], {
    answers,
    onInterruptible: () => {
      held += 1;
    },
    session: async () => {
      assert.equal(held, 1, 'one for the creation, none since');
      return 0;
    },
  });
});

test('Ctrl-C while the VM of --rm is deleted does not cancel the deletion', async () => {
  let interrupt = () => {};
  let aborted: boolean | undefined;
  const result = await fakeCli(['vm', 'run', '--rm', '--', 'true'], {
    onInterruptible: (trigger) => {
      interrupt = trigger;
    },
    answers: {
      ...answers,
      'vm.delete': (_params, { signal }) => {
        interrupt();
        aborted = signal?.aborted ?? false;
        return fakeVm('dev');
      },
    },
  });
  assert.equal(aborted, false);
  assert.equal(result.status, 0);
});

test('exec: every failure of banger’s own is 125', async () => {
  const missing = await fakeCli(['vm', 'exec', 'dev', '--', 'true'], {
    session: async () => {
      throw new BangerError('invalid_state', 'cannot run anything in VM "dev": it is stopped', {
        hint: 'banger vm start dev',
      });
    },
  });
  assert.equal(missing.status, 125);
  assert.equal(
    missing.stderr,
    'banger: cannot run anything in VM "dev": it is stopped\nbanger vm start dev\n',
  );
  const noDaemon = await fakeCli(['vm', 'exec', 'dev'], { daemon: false });
  assert.equal(noDaemon.status, 125);
});

test('a bug is called one, and its place is shown when asked for', async () => {
  const answers: Answers = {
    'vm.list': () => {
      throw new TypeError('x is undefined');
    },
  };
  const plain = await fakeCli(['vm', 'list'], { answers });
  assert.equal(plain.status, 1);
  assert.match(plain.stderr, /^banger: internal error: x is undefined\n/);
  assert.doesNotMatch(plain.stderr, /run\.test\.ts/);
  const debug = await fakeCli(['vm', 'list'], { answers, env: { BANGER_DEBUG: '1' } });
  assert.match(debug.stderr, /run\.test\.ts/);
});
