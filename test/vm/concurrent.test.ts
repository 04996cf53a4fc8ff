/** Several at once. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { TestHome } from '../helpers/test-home.ts';

describe('concurrent creations', () => {
  let home: TestHome;
  before(() => {
    home = TestHome.warm();
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('five vm run --rm: each its own name and status, nothing left', async () => {
    const runs = Array.from({ length: 5 }, (_, index) =>
      home.run(['vm', 'run', '--rm', '--', 'sh', '-c', `hostname; exit ${index}`]),
    );
    const outcomes = await Promise.all(runs);
    // On a busy host, progress is printed as well.
    assert.deepEqual(
      outcomes.map(({ status, stderr }) => [status, /^banger:.*/m.exec(stderr)?.[0]]),
      outcomes.map((_, index) => [index, undefined]),
    );
    const names = outcomes.map(({ stdout }) => stdout.toString());
    assert.equal(new Set(names).size, 5, names.join());
    await home.assertNothingLeft();
  });

  test('VMs side by side have names, addresses and disks of their own', async () => {
    const names = ['one', 'two', 'three'];
    await Promise.all(names.map((name) => home.ok(['vm', 'create', '--name', name, '--cold'])));
    await Promise.all(names.map((name) => home.guest(name, 'sh', '-c', `echo ${name} > /root/whose; sync`)));
    const seen = await Promise.all(
      names.map((name) => home.guest(name, 'sh', '-c', 'hostname; cat /root/whose')),
    );
    assert.deepEqual(
      seen,
      names.map((name) => `${name}\n${name}`),
    );
    const addresses = (await home.vms()).map((vm) => vm.guestIp);
    assert.equal(new Set(addresses).size, names.length);
    assert.equal((await home.ok(['vm', 'stop', ...names])).trim().split('\n').length, 3);
    await home.ok(['vm', 'delete', ...names]);
    await home.assertNothingLeft();
  });

  test('two creations of one name: one wins, the other says who has it', async () => {
    const outcomes = await Promise.all([1, 2].map(() => home.run(['vm', 'create', '--name', 'wanted'])));
    assert.deepEqual(new Set(outcomes.map(({ status }) => status)), new Set([0, 1]));
    const loser = outcomes.find(({ status }) => status === 1);
    assert.match(loser?.stderr ?? '', /"wanted" is taken/);
    const vms = await home.vms();
    assert.deepEqual(
      vms.map(({ name, state }) => [name, state]),
      [['wanted', 'running']],
    );
    await home.ok(['vm', 'delete', 'wanted']);
    await home.assertNothingLeft();
  });

  test('stop, start, delete and exec of one VM at once end in a state that fits', async () => {
    await home.ok(['vm', 'create', '--name', 'busy']);
    const outcomes = await Promise.all([
      home.run(['vm', 'stop', 'busy']),
      home.run(['vm', 'start', 'busy']),
      home.run(['vm', 'exec', 'busy', '--', 'true']),
      home.run(['vm', 'restart', 'busy']),
      home.run(['vm', 'delete', 'busy']),
    ]);
    const deleted = outcomes.at(-1);
    assert.equal(deleted?.status, 0, deleted?.stderr);
    await home.assertNothingLeft();
  });
});
