/** Snapshots through a real registry, with the real program. */

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SnapshotView, StateExported, StatePushed } from '../../src/api/results/state.ts';
import { HTPASSWD, PASSWORD, RegistryProcess } from '../oci/registry-process.ts';
import { StateHome } from './state-home.ts';

test('push, pull by digest and by tag, restore: the state is the same', async () => {
  await using registry = await RegistryProcess.start();
  await using home = new StateHome();
  const repository = `${registry.host}/team/state`;
  home.addVms('dev');
  const early = await home.run(['state', 'push', repository]);
  assert.equal(early.stderr, 'banger: there is no snapshot yet\nbanger state export\n');
  const { digest } = await home.json<StateExported>('state', 'export');
  const pushed = await home.json<StatePushed>('state', 'push', repository, 'latest', '--tag', 'stable');
  assert.deepEqual([pushed.repository, pushed.snapshot, pushed.tag], [repository, digest, 'stable']);
  assert.ok(pushed.uploadedBytes > 0);
  const again = await home.json<StatePushed>('state', 'push', repository);
  assert.deepEqual([again.digest, again.tag, again.uploadedBytes], [pushed.digest, null, 0]);

  await using elsewhere = new StateHome();
  const pulled = await elsewhere.json<SnapshotView>('state', 'pull', `${repository}@${pushed.digest}`);
  assert.deepEqual([pulled.digest, pulled.refs], [digest, []]);
  const tagged = await elsewhere.json<SnapshotView>(
    ...['state', 'pull', repository, '--tag', 'stable', '--ref', 'theirs'],
  );
  assert.deepEqual([tagged.digest, tagged.refs], [digest, ['theirs']]);
  await elsewhere.ok('state', 'bootstrap', 'theirs');
  assert.deepEqual(elsewhere.vmNames(), ['dev']);
  assert.deepEqual(elsewhere.files(join(elsewhere.dir, 'run')), [], 'no daemon was started');
});

test('a login is that of the shell it is run in', async () => {
  await using registry = await RegistryProcess.start({ htpasswd: HTPASSWD });
  await using home = new StateHome();
  home.addVms('dev');
  await home.ok('state', 'export');
  const repository = `${registry.host}/state`;
  // Started without it: a daemon does not know what a later shell has set.
  await home.ok('daemon', 'start');
  try {
    const config = join(home.base, 'docker');
    mkdirSync(config);
    const auth = Buffer.from(`alice:${PASSWORD}`).toString('base64');
    writeFileSync(join(config, 'config.json'), JSON.stringify({ auths: { [registry.host]: { auth } } }));
    const without = await home.run(['state', 'push', repository], { env: { DOCKER_CONFIG: home.base } });
    assert.equal(without.status, 1);
    assert.ok(!without.stderr.includes(PASSWORD));
    const { status, stderr } = await home.run(['state', 'push', repository], {
      env: { DOCKER_CONFIG: config },
    });
    assert.equal(status, 0, stderr);
  } finally {
    await home.ok('daemon', 'stop');
  }
});
