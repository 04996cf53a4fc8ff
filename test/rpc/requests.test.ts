import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import type { DaemonStatus } from '../../src/api/results/daemon.ts';
import type { Progress } from '../../src/api/contract.ts';
import type { VmView } from '../../src/api/results/vm.ts';
import { BangerError } from '../../src/core/errors.ts';
import { connect } from '../../src/rpc/client.ts';
import { aborted, Fixture, gate, VERSION } from './fixture.ts';

const NO_VMS: readonly VmView[] = [];
const VM = { name: 'dev' } as unknown as VmView;

test('a call gets its result, with defaults filled in for the handler', async () => {
  await using fixture = await Fixture.start({
    'vm.prune': async (params) => {
      assert.deepEqual(params, { dryRun: false });
      return [VM];
    },
  });
  const client = await fixture.client();
  assert.deepEqual(await client.call('vm.prune', {}), [VM]);
  assert.deepEqual(await client.hello(), { version: VERSION, pid: process.pid });
});

test('many calls at once on one connection each get their own answer', async () => {
  await using fixture = await Fixture.start({
    'vm.show': async ({ ref }) => {
      await new Promise((resolve) => setTimeout(resolve, ref.length % 3));
      return { name: ref } as never;
    },
  });
  const client = await fixture.client();
  const refs = Array.from({ length: 40 }, (_, index) => 'x'.repeat(index + 1));
  const results = await Promise.all(refs.map((ref) => client.call('vm.show', { ref })));
  assert.deepEqual(
    results.map((result) => result.name),
    refs,
  );
});

test('hello and the first request travel in one write', async () => {
  await using fixture = await Fixture.start({ 'vm.list': async () => NO_VMS });
  const peer = await fixture.raw();
  peer.send(peer.hello(), { id: 1, method: 'vm.list', params: {} });
  assert.deepEqual((await peer.answer('hello')).result, { version: VERSION, pid: process.pid });
  assert.deepEqual((await peer.answer(1)).result, []);
});

test('without hello nothing is served', async () => {
  let called = false;
  await using fixture = await Fixture.start({
    'vm.list': async () => {
      called = true;
      return NO_VMS;
    },
  });
  const peer = await fixture.raw();
  peer.send({ id: 1, method: 'vm.list', params: {} });
  const { error } = await peer.answer(1);
  assert.equal(error?.data?.['code'], 'bad_request');
  assert.match(error?.message ?? '', /daemon\.hello/);
  assert.equal(called, false);
});

test('another version is refused, both named, but for status and stop', async () => {
  const status = { version: VERSION } as DaemonStatus;
  let stopped = false;
  await using fixture = await Fixture.start({
    'daemon.status': async () => status,
    'daemon.stop': async () => {
      stopped = true;
      return null;
    },
    'vm.list': async () => assert.fail('served to another version'),
  });
  const client = await fixture.client({ version: '9.9.9' });
  await assert.rejects(client.call('vm.list', {}), (error: BangerError) => {
    assert.equal(error.code, 'version_mismatch');
    assert.match(error.message, /9\.9\.9/);
    assert.match(error.message, /1\.2\.3/);
    assert.match(error.hint ?? '', /banger daemon stop/);
    return true;
  });
  await assert.rejects(client.hello(), { code: 'version_mismatch' });
  assert.deepEqual(await client.call('daemon.status', {}), status);
  assert.equal(await client.call('daemon.stop', {}), null);
  assert.equal(stopped, true);
});

test('a BangerError arrives with code, message, hint and operation id', async () => {
  await using fixture = await Fixture.start(
    {
      'vm.start': async () => {
        throw new BangerError('in_use', 'VM "dev" is busy', { hint: 'wait' });
      },
    },
    { newOperationId: () => 'abc123abc123' },
  );
  const client = await fixture.client();
  await assert.rejects(client.call('vm.start', { ref: 'dev' }), (error: BangerError) => {
    assert.ok(error instanceof BangerError);
    assert.deepEqual(
      [error.code, error.message, error.hint, error.operationId],
      ['in_use', 'VM "dev" is busy', 'wait', 'abc123abc123'],
    );
    return true;
  });
});

test('anything else thrown is internal, and logged with its stack under the same operation id', async () => {
  await using fixture = await Fixture.start({
    'vm.list': async () => {
      throw new TypeError('oops');
    },
  });
  const client = await fixture.client();
  const error: BangerError = await client.call('vm.list', {}).then(
    () => assert.fail('it succeeded'),
    (reason) => reason,
  );
  assert.equal(error.code, 'internal');
  assert.equal(error.hint, 'banger daemon logs');
  assert.match(error.operationId ?? '', /^[0-9a-f]{12}$/);
  const line = fixture.log.find(({ level }) => level === 'error');
  assert.equal(line?.fields['operationId'], error.operationId);
  assert.match((line?.fields['err'] as Error | undefined)?.stack ?? '', /TypeError: oops\n {4}at /);
});

test('an error the user sees is logged under its operation id, with the cause behind it', async () => {
  const cause = new Error('EMFILE');
  await using fixture = await Fixture.start({
    'vm.list': async () => {
      throw new BangerError('io_error', 'cannot read the store', { cause });
    },
    'vm.show': async () => {
      throw new BangerError('not_found', 'no VM "dev"');
    },
  });
  const client = await fixture.client();
  await assert.rejects(client.call('vm.list', {}), { code: 'io_error' });
  await assert.rejects(client.call('vm.show', { ref: 'dev' }), { code: 'not_found' });
  const lines = fixture.log.filter(({ level }) => level !== 'debug');
  assert.deepEqual(
    lines.map(({ level, message }) => [level, message]),
    [
      ['warn', 'cannot read the store'],
      ['warn', 'no VM "dev"'],
    ],
  );
  assert.equal((lines[0]?.fields['err'] as Error | undefined)?.cause, cause);
});

test('a full disk is said to be full, whoever met it', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'full-'));
  const database = new DatabaseSync(':memory:');
  database.exec('PRAGMA page_size = 512; PRAGMA max_page_count = 2');
  await using fixture = await Fixture.start({
    'vm.list': async () => {
      database.exec('CREATE TABLE a (b); CREATE TABLE c (d)');
      return assert.fail('SQLite has room');
    },
    'vm.show': async () => {
      writeFileSync('/dev/full', 'x');
      return assert.fail('/dev/full has room');
    },
    'vm.delete': async () => {
      writeFileSync(join(dir.path, 'no', 'such'), 'x');
      return assert.fail('there is no such directory');
    },
  });
  const client = await fixture.client();
  await assert.rejects(client.call('vm.list', {}), { code: 'no_space', message: /^vm\.list: no space left/ });
  await assert.rejects(client.call('vm.show', { ref: 'dev' }), { code: 'no_space' });
  await assert.rejects(client.call('vm.delete', { ref: 'dev' }), { code: 'internal' });
  database.close();
});

test('an answer that cannot be written as JSON is an internal error, not silence', async () => {
  await using fixture = await Fixture.start({ 'vm.list': async () => [{ size: 1n }] as never });
  const client = await fixture.client();
  await assert.rejects(client.call('vm.list', {}), { code: 'internal' });
});

test('wrong parameters are usage errors that name the field', async () => {
  await using fixture = await Fixture.start({ 'vm.show': async () => assert.fail('called') });
  const client = await fixture.client();
  const wrong: [object, RegExp][] = [
    [{ ref: 7 }, /vm\.show: ref: /],
    [{}, /vm\.show: ref: /],
    [{ ref: 'x', extra: 1 }, /extra/],
  ];
  for (const [params, message] of wrong) {
    await assert.rejects(client.call('vm.show', params as never), (error: BangerError) => {
      assert.equal(error.code, 'usage');
      assert.match(error.message, message);
      return true;
    });
  }
  await assert.rejects(client.call('vm.nope' as never, {} as never), { code: 'unsupported' });
  await assert.rejects(client.call('toString' as never, {} as never), { code: 'unsupported' });
});

test('progress arrives in order and before the answer; after it there is none', async () => {
  let late: ((progress: Progress) => void) | undefined;
  await using fixture = await Fixture.start({
    'vm.start': async (_params, context) => {
      for (let done = 0; done < 100; done++) context.progress({ step: 'boot', text: 'booting', done });
      late = context.progress;
      return VM;
    },
    'vm.list': async () => NO_VMS,
  });
  const client = await fixture.client();
  const seen: number[] = [];
  const result = await client.call(
    'vm.start',
    { ref: 'dev' },
    { onProgress: (p) => seen.push(p.done ?? -1) },
  );
  assert.deepEqual(result, VM);
  assert.deepEqual(
    seen,
    Array.from({ length: 100 }, (_, index) => index),
  );
  late?.({ step: 'late', text: 'late' });
  await client.call('vm.list', {});
  assert.equal(seen.length, 100);
});

test('aborting a call cancels it, and it rejects only once the undo is finished', async () => {
  const entered = gate();
  const undo = gate();
  let undone = false;
  await using fixture = await Fixture.start({
    'vm.start': async (_params, { signal }) => {
      entered.resolve();
      await aborted(signal);
      await undo.promise;
      undone = true;
      throw signal.reason;
    },
  });
  const client = await fixture.client();
  const abort = new AbortController();
  const call = client.call('vm.start', { ref: 'dev' }, { signal: abort.signal });
  await entered.promise;
  abort.abort();
  setTimeout(() => undo.resolve(), 20);
  await assert.rejects(call, { code: 'cancelled' });
  assert.equal(undone, true);
});

test("a platform's AbortError becomes cancelled too", async () => {
  const entered = gate();
  await using fixture = await Fixture.start({
    'vm.start': async (_params, { signal }) => {
      entered.resolve();
      await aborted(signal);
      throw new DOMException('aborted', 'AbortError');
    },
  });
  const client = await fixture.client();
  const abort = new AbortController();
  const call = client.call('vm.start', { ref: 'dev' }, { signal: abort.signal });
  await entered.promise;
  abort.abort();
  await assert.rejects(call, { code: 'cancelled' });
  assert.equal(fixture.log.filter(({ level }) => level === 'error').length, 0);
});

test('a request cancelled in the same write as it was sent is cancelled', async () => {
  await using fixture = await Fixture.start({
    'vm.start': async (_params, { signal }) => {
      throw await aborted(signal);
    },
  });
  const peer = await fixture.raw();
  peer.send(
    peer.hello(),
    { id: 1, method: 'vm.start', params: { ref: 'dev' } },
    { method: '$/cancelRequest', params: { id: 1 } },
  );
  assert.equal((await peer.answer(1)).error?.data?.['code'], 'cancelled');
});

test('a cancellation that is not answered in time rejects all the same', async () => {
  const entered = gate();
  const end = gate();
  await using fixture = await Fixture.start({
    'vm.start': async () => {
      entered.resolve();
      await end.promise;
      return VM;
    },
  });
  const client = await fixture.client();
  const abort = new AbortController();
  const call = client.call('vm.start', { ref: 'dev' }, { signal: abort.signal, cancelGraceMs: 5 });
  await entered.promise;
  abort.abort();
  await assert.rejects(call, { code: 'cancelled', message: /5 ms/ });
  end.resolve();
});

test('work that was done before the cancellation came is not thrown away', async () => {
  const entered = gate();
  const end = gate();
  await using fixture = await Fixture.start({
    'vm.start': async () => {
      entered.resolve();
      await end.promise;
      return VM;
    },
  });
  const client = await fixture.client();
  const abort = new AbortController();
  const call = client.call('vm.start', { ref: 'dev' }, { signal: abort.signal });
  await entered.promise;
  abort.abort();
  end.resolve();
  assert.deepEqual(await call, VM);
});

test('an aborted signal sends nothing', async () => {
  await using fixture = await Fixture.start({ 'vm.list': async () => assert.fail('called') });
  const client = await fixture.client();
  await assert.rejects(client.call('vm.list', {}, { signal: AbortSignal.abort() }), { code: 'cancelled' });
});

for (const how of ['destroy', 'end'] as const) {
  test(`hanging up (${how}) cancels every request of the connection and no other`, async () => {
    const signals: AbortSignal[] = [];
    const closed: AbortSignal[] = [];
    const entered = [gate(), gate(), gate()];
    await using fixture = await Fixture.start({
      'vm.start': async (_params, context) => {
        signals.push(context.signal);
        closed.push(context.connection.closed);
        entered[signals.length - 1]?.resolve();
        throw await aborted(context.signal);
      },
    });
    const other = await fixture.client();
    const kept = other.call('vm.start', { ref: 'kept' });
    kept.catch(() => undefined);
    await entered[0]?.promise;
    const peer = await fixture.raw();
    peer.send(
      peer.hello(),
      { id: 1, method: 'vm.start', params: { ref: 'a' } },
      { id: 2, method: 'vm.start', params: { ref: 'b' } },
    );
    await entered[1]?.promise;
    await entered[2]?.promise;
    peer.socket[how]();
    const [keptSignal, ...gone] = signals;
    await Promise.all(gone.map(aborted));
    assert.equal(keptSignal?.aborted, false);
    assert.deepEqual(
      closed.map((signal) => signal.aborted),
      [false, true, true],
    );
    assert.equal((gone[0]?.reason as BangerError | undefined)?.code, 'cancelled');
  });
}

test('a client whose daemon goes away fails with unavailable, at once and afterwards', async () => {
  const entered = gate();
  const fixture = await Fixture.start({
    'vm.start': async () => {
      entered.resolve();
      return new Promise<never>(() => undefined);
    },
  });
  const client = await fixture.client();
  const call = client.call('vm.start', { ref: 'dev' });
  await entered.promise;
  await Promise.all([assert.rejects(call, { code: 'unavailable' }), fixture.server.close({ graceMs: 1 })]);
  await client.closed;
  await assert.rejects(client.call('vm.list', {}), { code: 'unavailable' });
  await fixture[Symbol.asyncDispose]();
});

test('a closing server lets requests that stop in time say how they ended', async () => {
  const entered = gate();
  const fixture = await Fixture.start({
    'vm.start': async (_params, { signal }) => {
      entered.resolve();
      await aborted(signal);
      throw new BangerError('timeout', 'gave up in good order');
    },
  });
  const client = await fixture.client();
  const call = client.call('vm.start', { ref: 'dev' });
  await entered.promise;
  await Promise.all([assert.rejects(call, { code: 'timeout' }), fixture.server.close()]);
  await assert.rejects(connect({ socketPath: fixture.socketPath, version: VERSION }), {
    code: 'unavailable',
  });
  await fixture[Symbol.asyncDispose]();
});

test('closed resolves when the daemon stops: the sign that its socket is gone', async () => {
  const fixture = await Fixture.start({ 'daemon.stop': async () => null });
  const client = await fixture.client();
  await client.call('daemon.stop', {});
  const closing = fixture.server.close();
  await client.closed;
  await assert.rejects(connect({ socketPath: fixture.socketPath, version: VERSION }), {
    code: 'unavailable',
  });
  await closing;
  await fixture[Symbol.asyncDispose]();
});

test('one access line per request, at debug', async () => {
  await using fixture = await Fixture.start({ 'vm.list': async () => NO_VMS });
  const client = await fixture.client();
  await client.call('vm.list', {});
  const lines = fixture.log.filter(({ fields }) => fields['method'] === 'vm.list');
  assert.equal(lines.length, 1);
  assert.equal(lines[0]?.level, 'debug');
  assert.equal(lines[0]?.fields['outcome'], 'ok');
});
