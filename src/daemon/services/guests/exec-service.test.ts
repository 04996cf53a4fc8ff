import assert from 'node:assert/strict';
import { type Duplex, duplexPair } from 'node:stream';
import { test } from 'node:test';
import type { Socket } from 'node:net';
import { FakeGuest } from '../../../../test/helpers/fake-guest.ts';
import { FRAME_TYPES } from '../../../core/channel/frame.ts';
import { BangerError } from '../../../core/errors.ts';
import { NO_LOG } from '../../../host/log.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import { TicketBooth } from '../../../rpc/tickets.ts';
import type { Machine } from '../../../vmm/driver.ts';
import { createRunner } from '../../../host/runner.ts';
import { ExecService } from './exec-service.ts';
import { KnownRepos } from '../../../workspace/known-repos.ts';
import { DriftWatch } from '../workspaces/workspace-drift.ts';
import { LiveVm } from '../vms/live-vm.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';
import type { VmSleep } from '../vms/vm-sleep.ts';

const never = new AbortController().signal;
const PARAMS = {
  ref: 'dev',
  argv: ['true'],
  env: {},
  tty: false,
  stdin: false,
  rows: 24,
  columns: 80,
  compareWorkspace: false,
};

/** A VM in which each command ends at once; `started` counts them. */
function liveVm(started: string[], name: string): LiveVm {
  const machine = {
    exited: new Promise<never>(() => undefined),
    connectChannel: async () =>
      new FakeGuest({
        onFrame: (frame, guest) => {
          if (frame.type !== FRAME_TYPES.open) return;
          started.push(name);
          guest.close(frame.stream, { kind: 'done', status: 0 });
        },
      }).hostSide,
  };
  return new LiveVm('1'.repeat(32), machine as unknown as Machine, 'launched');
}

/** Between the ticket and its client the VM was put to sleep: what `awake` gives then. */
function scene(before: LiveVm, awake: () => Promise<LiveVm>) {
  const tickets = new TicketBooth();
  const sleep = {
    running: async () => ({ vm: { id: before.id, name: 'dev', workspace: null }, live: before }),
    awake,
  } as unknown as VmSleep;
  const paths = { streamSocketPath: '/s' } as BangerPaths;
  const drift = new DriftWatch({ runner: createRunner(), repos: new KnownRepos(process.env), log: NO_LOG });
  const portWatch = { stirred: () => undefined, heard: async () => undefined };
  const service = new ExecService({
    registry: {} as VmRegistry,
    sleep,
    tickets,
    portWatch,
    paths,
    drift,
    log: NO_LOG,
  });
  return { tickets, service };
}

async function answerTo(client: Duplex): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of client) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('latin1');
}

test('a ticket that comes after its VM was put to sleep wakes it, and runs there', async () => {
  const started: string[] = [];
  const woken = liveVm(started, 'woken');
  const { tickets, service } = scene(liveVm(started, 'asleep'), async () => woken);
  const { ticket } = await service.exec(PARAMS, never);
  const [client, server] = duplexPair();
  tickets.redeem(ticket)?.(server as unknown as Socket);
  client.end();
  await answerTo(client);
  assert.deepEqual(started, ['woken']);
});

test('when it cannot be woken the client is told', async () => {
  const { tickets, service } = scene(liveVm([], 'asleep'), async () => {
    throw new BangerError('invalid_state', 'it is paused');
  });
  const { ticket } = await service.exec(PARAMS, never);
  const [client, server] = duplexPair();
  tickets.redeem(ticket)?.(server as unknown as Socket);
  client.end();
  assert.match(await answerTo(client), /channel: it is paused/);
});

test('a client that has left meanwhile starts nothing, and hurts nobody', async () => {
  const started: string[] = [];
  const gate = Promise.withResolvers<LiveVm>();
  const { tickets, service } = scene(liveVm(started, 'asleep'), () => gate.promise);
  const { ticket } = await service.exec(PARAMS, never);
  const [, server] = duplexPair();
  tickets.redeem(ticket)?.(server as unknown as Socket);
  server.destroy(new Error('it hung up'));
  gate.resolve(liveVm(started, 'woken'));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(started, []);
});
