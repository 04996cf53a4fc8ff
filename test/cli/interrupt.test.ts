import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { HANDSHAKE_VERSION } from '../../src/core/buildinfo.ts';
import { BangerError } from '../../src/core/errors.ts';
import { listen } from '../../src/rpc/server.ts';
import type { Handlers } from '../../src/rpc/server-types.ts';
import { TicketBooth } from '../../src/rpc/tickets.ts';
import { handlersWith } from '../rpc/fixture.ts';
import { fakeVm } from './fake-cli.ts';

const program = join(import.meta.dirname, '../../src/main/banger.ts');

interface Running {
  readonly process: ChildProcess;
  readonly ended: Promise<{
    readonly status: number | null;
    readonly signal: string | null;
    readonly stderr: string;
  }>;
}

/** A daemon with handlers of ours, and the real program talking to it. */
async function withDaemon(handlers: Partial<Handlers>, work: (home: string) => Promise<void>): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), 'banger-cli-'));
  const server = await listen({
    socketPath: join(home, 'run', 'bangerd.sock'),
    streamSocketPath: join(home, 'run', 'stream.sock'),
    handlers: handlersWith(handlers),
    tickets: new TicketBooth(),
    version: HANDSHAKE_VERSION,
    log: { debug() {}, warn() {}, error() {} },
  });
  try {
    await work(home);
  } finally {
    await server.close({ graceMs: 1000 });
    await rm(home, { recursive: true });
  }
}

function start(home: string, ...args: string[]): Running {
  const child = spawn(process.execPath, [program, ...args], {
    env: { ...process.env, BANGER_HOME: home },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const ended = once(child, 'close').then(([status, signal]: unknown[]) => ({
    status: status as number | null,
    signal: signal as string | null,
    stderr,
  }));
  return { process: child, ended };
}

function gate(): { readonly passed: Promise<void>; readonly open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { passed: promise, open: resolve };
}

test('Ctrl-C while creating: the daemon undoes and confirms before the program ends with 130', async () => {
  const begun = gate();
  const events: string[] = [];
  await withDaemon(
    {
      'vm.create': async (_params, { signal }) => {
        begun.open();
        await once(signal, 'abort');
        events.push('undoing');
        await new Promise((resolve) => setTimeout(resolve, 200));
        events.push('undone');
        throw new BangerError('cancelled', 'cancelled');
      },
    },
    async (home) => {
      const running = start(home, 'vm', 'run', '--', 'true');
      await begun.passed;
      running.process.kill('SIGINT');
      const { status, stderr } = await running.ended;
      events.push('ended');
      assert.equal(status, 130);
      assert.match(stderr, /^banger: cancelled\n/);
      assert.deepEqual(events, ['undoing', 'undone', 'ended']);
    },
  );
});

test('a second Ctrl-C ends the program at once', async () => {
  const begun = gate();
  const aborted = gate();
  const never = gate();
  await withDaemon(
    {
      'vm.create': async (_params, { signal }) => {
        begun.open();
        await once(signal, 'abort');
        aborted.open();
        await never.passed;
        throw new BangerError('cancelled', 'cancelled');
      },
    },
    async (home) => {
      const running = start(home, 'vm', 'run', '--', 'true');
      await begun.passed;
      running.process.kill('SIGINT');
      await aborted.passed;
      running.process.kill('SIGINT');
      assert.equal((await running.ended).signal, 'SIGINT');
      never.open();
    },
  );
});

test('a reader that goes away in the middle of a long list: no complaint', async () => {
  const vms = Array.from({ length: 5000 }, (_, index) => ({ ...fakeVm(`vm-${index}`) }));
  await withDaemon({ 'vm.list': async () => vms }, async (home) => {
    const child = spawn(
      'bash',
      ['-c', '"$0" "$1" vm list | head -n 1; echo "${PIPESTATUS[0]}"', process.execPath, program],
      {
        env: { ...process.env, BANGER_HOME: home },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    const [stdout, stderr] = await Promise.all([child.stdout.toArray(), child.stderr.toArray()]);
    assert.equal(Buffer.concat(stderr as Buffer[]).toString(), '');
    assert.match(Buffer.concat(stdout as Buffer[]).toString(), /^ID +NAME .*\n0\n$/);
  });
});
