import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CancellationTokenSource,
  createMessageConnection,
  ProgressType,
  ResponseError,
  StreamMessageReader,
  StreamMessageWriter,
} from 'vscode-jsonrpc/node';
import type { Progress } from '../../src/api/contract.ts';
import { aborted, Fixture, VERSION } from './fixture.ts';

test("vscode-jsonrpc's own client is served: results, errors, progress, cancellation", async () => {
  await using fixture = await Fixture.start({
    'vm.list': async () => [],
    'vm.start': async (_params, { signal, progress }) => {
      progress({ step: 'boot', text: 'booting' });
      throw await aborted(signal);
    },
  });
  const { socket } = await fixture.raw();
  const connection = createMessageConnection(
    new StreamMessageReader(socket),
    new StreamMessageWriter(socket),
  );
  const token = new CancellationTokenSource();
  connection.listen();
  const hello = connection.sendRequest('daemon.hello', { version: VERSION, pid: 1 });
  assert.deepEqual(await hello, { version: VERSION, pid: process.pid });
  assert.deepEqual(await connection.sendRequest('vm.list', {}), []);
  // The token of a request's progress is its id: the third request of this client has the number 2.
  connection.onProgress(new ProgressType<Progress>(), 2, () => token.cancel());
  await assert.rejects(
    connection.sendRequest('vm.start', { ref: 'dev' }, token.token),
    (error: ResponseError<{ code: string }>) => {
      assert.ok(error instanceof ResponseError);
      assert.equal(error.code, -32800);
      assert.equal(error.data?.code, 'cancelled');
      return true;
    },
  );
  connection.dispose();
});
