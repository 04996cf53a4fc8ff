import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeGuest } from '../../../../test/helpers/fake-guest.ts';
import { ERRNO } from '../../../core/channel/close.ts';
import { STDERR, STDOUT } from '../../../core/channel/frame.ts';
import { AgentClient } from '../../../guest/agent-client.ts';
import { MAX_GUEST_STDERR_BYTES } from '../../../workspace/guest-programs.ts';
import { guestPrograms } from './guest-programs.ts';

const LIMITS = { signal: new AbortController().signal, timeoutMs: 5000, maxOutputBytes: 100 };

async function agentOf(guest: FakeGuest): Promise<AgentClient> {
  const signal = new AbortController().signal;
  return await AgentClient.connect(guest.hostSide, { signal, timeoutMs: 5000 });
}

test('a guest without the program is told apart from one where it cannot be started', async () => {
  for (const [errno, text, code] of [
    [ERRNO.ENOENT, 'spawn: git', 'dependency_missing'],
    [ERRNO.ENOENT, 'chdir: /root/repo', 'guest_failed'],
    [ERRNO.EACCES, 'spawn: git', 'guest_failed'],
  ] as const) {
    const guest = new FakeGuest({
      onFrame: (frame, self) => self.close(frame.stream, { kind: 'failed', errno, text }),
    });
    const agent = await agentOf(guest);
    const running = guestPrograms(agent).run({ argv: ['git', 'status'], cwd: '/root/repo' }, LIMITS);
    await assert.rejects(running, { code, message: /git/ }, text);
    agent.close();
  }
});

test('what a program prints on stderr has a limit of its own', async () => {
  const guest = new FakeGuest({
    onFrame(frame, self) {
      self.data(frame.stream, STDOUT, 'out');
      self.data(frame.stream, STDERR, 'e'.repeat(1000));
      self.close(frame.stream, { kind: 'done', status: 1 });
    },
  });
  const agent = await agentOf(guest);
  const { stdout, stderr, status } = await guestPrograms(agent).run({ argv: ['git'], cwd: '/' }, LIMITS);
  assert.deepEqual([stdout.toString(), stderr.length, status], ['out', 1000, 1]);
  assert(MAX_GUEST_STDERR_BYTES > 1000);
  agent.close();
});
