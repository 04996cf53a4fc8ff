import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FRAME_TYPES, HEADER_BYTES, STDOUT } from '../../../core/channel/frame.ts';
import { BangerError } from '../../../core/errors.ts';
import type { Machine } from '../../../vmm/driver.ts';
import { FakeGuest } from '../../../../test/helpers/fake-guest.ts';
import { LiveVm } from './live-vm.ts';

const HEALTH = {
  uptimeMs: 1,
  bootId: '6f1c2d3e-0000-4000-8000-000000000001',
  memoryTotalKib: 1,
  memoryAvailableKib: 1,
  load1: 0,
  processes: 1,
  diskTotalBytes: 1,
  diskFreeBytes: 1,
  init: 'agent',
  configured: true,
};

/** A guest that answers its first request with `answer`. */
function guest(answer: (guest: FakeGuest, stream: number) => void): FakeGuest {
  return new FakeGuest({
    onFrame: (frame, self) => {
      if (frame.type === FRAME_TYPES.open) answer(self, frame.stream);
    },
  });
}

const healthy = (): FakeGuest =>
  guest((self, stream) => {
    self.data(stream, STDOUT, JSON.stringify(HEALTH));
    self.close(stream, { kind: 'done', status: 0 });
  });

/** What an agent sends that hears late of the hangup of the host before. */
const farewell = (): FakeGuest => guest((self) => self.write(Buffer.alloc(HEADER_BYTES, 0xff)));

function machineOf(guests: FakeGuest[]): Machine & { readonly left: FakeGuest[] } {
  return {
    left: guests,
    exited: new Promise<never>(() => undefined),
    connectChannel: async () => {
      const next = guests.shift();
      if (next === undefined) throw new BangerError('vmm_failed', 'no more guests');
      return next.hostSide;
    },
    release: () => undefined,
    kill: async () => undefined,
  } as unknown as Machine & { readonly left: FakeGuest[] };
}

const signal = new AbortController().signal;

test('an adopted guest that ends the first sessions for late news is asked again', async () => {
  const machine = machineOf([farewell(), farewell(), healthy()]);
  const live = new LiveVm('a', machine, 'adopted');
  const agent = await live.agent(signal);
  assert.equal(machine.left.length, 0);
  assert.equal(await live.agent(signal), agent);
  live.release();
});

test('one that goes on ending them is not asked for ever', async () => {
  const machine = machineOf([farewell(), farewell(), farewell(), farewell(), healthy()]);
  const live = new LiveVm('a', machine, 'adopted');
  await assert.rejects(live.agent(signal), (error: BangerError) => error.code === 'channel_broken');
});

test('a machine that was started just now is not asked first', async () => {
  const first = guest(() => assert.fail('it was asked'));
  const machine = machineOf([first, farewell(), healthy()]);
  const live = new LiveVm('a', machine, 'launched');
  const agent = await live.agent(signal);
  // The next session follows one.
  agent.close();
  await agent.closed;
  assert.notEqual(await live.agent(signal), agent);
  assert.equal(machine.left.length, 0);
  live.release();
});

test('a command keeps a VM busy, a connection to one of its ports does not', async () => {
  const live = new LiveVm('a', machineOf([guest(() => undefined)]), 'launched');
  const agent = await live.agent(signal);
  const connection = agent.connectTo({ port: 80 });
  assert.equal(live.isBusy, false);
  // Nor does a look at what it listens on.
  const look = agent.ports(signal).catch(() => undefined);
  assert.equal(live.isBusy, false);
  agent.exec({ argv: ['true'] });
  assert.equal(live.isBusy, true);
  live.release();
  await connection.result;
  await look;
  assert.equal(agent.openLooks, 0);
});
