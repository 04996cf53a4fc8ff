import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connectDaemon } from '../../src/cli/connect/connect-daemon.ts';
import type { ConnectDaemonOptions } from '../../src/cli/connect/types.ts';
import type { BangerError } from '../../src/core/errors.ts';
import { VERSION } from './fixture.ts';

const DAEMON = fileURLToPath(new URL('./fake-daemon.ts', import.meta.url));

/** A directory for a daemon; whatever was started in it is ended with the test. */
class Place implements Disposable {
  readonly dir: string = mkdtempSync(join(tmpdir(), 'banger-connect-'));
  readonly logPath: string = join(this.dir, 'state', 'd.log');

  options(how: string, own: Partial<ConnectDaemonOptions> = {}): ConnectDaemonOptions {
    return {
      socketPath: join(this.dir, 'run', 'd.sock'),
      logPath: this.logPath,
      version: VERSION,
      daemonArgv: [process.execPath, DAEMON, this.dir, how],
      ...own,
    };
  }

  started(): number[] {
    try {
      return readFileSync(join(this.dir, 'started'), 'utf8').trim().split('\n').map(Number);
    } catch {
      return [];
    }
  }

  [Symbol.dispose](): void {
    for (const pid of this.started()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}

test('a daemon is started when none answers, and found when one does', async () => {
  using place = new Place();
  let starting = 0;
  const options = place.options('serve', { onStarting: () => starting++ });
  const first = await connectDaemon(options);
  const status = await first.call('daemon.status', {});
  first.close();
  const second = await connectDaemon(options);
  assert.equal((await second.call('daemon.status', {})).pid, status.pid);
  second.close();
  assert.equal(starting, 1);
  assert.deepEqual(place.started(), [status.pid]);
  assert.equal(status.stateDir, '/');
});

test('the daemon has a session of its own', async () => {
  using place = new Place();
  const client = await connectDaemon(place.options('serve'));
  const { pid } = await client.call('daemon.status', {});
  client.close();
  // Fields after the name: state, ppid, pgrp, session. proc_pid_stat(5).
  const [, , pgrp, session] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  assert.deepEqual([Number(pgrp), Number(session)], [pid, pid]);
});

test('several at once end up with one daemon', async () => {
  using place = new Place();
  const clients = await Promise.all([1, 2, 3].map(() => connectDaemon(place.options('serve'))));
  const pids = await Promise.all(clients.map(async (client) => (await client.call('daemon.status', {})).pid));
  for (const client of clients) client.close();
  assert.equal(new Set(pids).size, 1);
});

test('right after a stop the next command waits for the lock and starts a new one', async () => {
  using place = new Place();
  const first = await connectDaemon(place.options('serve'));
  const { pid } = await first.call('daemon.status', {});
  await first.call('daemon.stop', {});
  await first.closed;
  const second = await connectDaemon(place.options('serve'));
  assert.notEqual((await second.call('daemon.status', {})).pid, pid);
  second.close();
});

test('a daemon that fails is quoted, without its older lines and control characters', async () => {
  using place = new Place();
  const ready = await connectDaemon(place.options('serve'));
  await ready.call('daemon.stop', {});
  await ready.closed;
  writeFileSync(place.logPath, 'an old line\n');
  await assert.rejects(connectDaemon(place.options('fail')), (error: BangerError) => {
    assert.equal(error.code, 'unavailable');
    assert.match(error.message, /status 3\n {2}error: bad .\[31mconfig\n {2}bangerd: cannot go on$/);
    assert.doesNotMatch(error.message, /old line|\u001b/);
    assert.match(error.hint ?? '', /d\.log/);
    return true;
  });
});

test('a daemon that never answers is given up within the bound', async () => {
  using place = new Place();
  await assert.rejects(connectDaemon(place.options('hang', { startTimeoutMs: 300 })), {
    code: 'unavailable',
    message: /within 300 ms/,
  });
});

test('a program that is not there, and no program at all, are unavailable', async () => {
  using place = new Place();
  const options = place.options('serve');
  await assert.rejects(connectDaemon({ ...options, daemonArgv: ['/nonexistent/bangerd'] }), {
    code: 'unavailable',
    message: /: \/nonexistent\/bangerd: no such file or directory/,
  });
  await assert.rejects(connectDaemon({ ...options, daemonArgv: null }), { code: 'unavailable' });
});

test('waiting for a daemon can be cancelled', async () => {
  using place = new Place();
  const abort = new AbortController();
  const options = place.options('hang', {
    signal: abort.signal,
    onStarting: () => setTimeout(() => abort.abort(), 50),
  });
  await assert.rejects(connectDaemon(options), { code: 'cancelled' });
});

test('a stale socket file does not keep a daemon from being started', async () => {
  using place = new Place();
  const first = await connectDaemon(place.options('serve'));
  const { pid } = await first.call('daemon.status', {});
  process.kill(pid, 'SIGKILL');
  await first.closed;
  // Its connections go before its listening socket does: one made in between would be hung up on.
  while (existsSync(`/proc/${pid}`)) await new Promise((resolve) => setTimeout(resolve, 5));
  rmSync(join(place.dir, 'lock'));
  const second = await connectDaemon(place.options('serve'));
  assert.notEqual((await second.call('daemon.status', {})).pid, pid);
  second.close();
});

test('a daemon of another version shows at the first call, with the command to run', async () => {
  using place = new Place();
  const first = await connectDaemon(place.options('serve'));
  first.close();
  const other = await connectDaemon(place.options('serve', { version: '9.9.9' }));
  await assert.rejects(other.call('vm.list', {}), { code: 'version_mismatch', hint: /banger daemon stop/ });
  await other.call('daemon.stop', {});
  await other.closed;
});
