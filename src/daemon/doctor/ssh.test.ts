import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DoctorHome } from '../../../test/helpers/doctor-home.ts';
import { withBlock } from '../../core/ssh/include-block.ts';

test('config.ssh', async () => {
  using home = new DoctorHome();
  // Another than HOME, at which ssh does not look.
  const homeDir = join(home.dir, 'user');
  const says = () => home.says('config.ssh', { host: { homeDir } });
  assert.match(await says(), /^info: .* not set up; .* → banger ssh-config --install$/);
  mkdirSync(join(homeDir, '.ssh'), { recursive: true });
  const file = join(homeDir, '.ssh', 'config');
  const own = withBlock('Host *\n# \xe9', join(home.paths.sshDir, 'config'));
  writeFileSync(file, own, 'latin1');
  assert.match(await says(), /^ok: /);
  writeFileSync(file, withBlock('', '/other/config'));
  assert.match(await says(), /^info: .*another instance of banger: \/other\/config$/);
  writeFileSync(file, own.replace('Include', 'Includes'));
  assert.match(await says(), /^warning: .*have been changed → remove them/);
  const none = await home.says('config.ssh', { host: { homeDir: null } });
  assert.match(none, /^warning: the user database has no entry/);
});

test('config.ssh: the key that the settings name', async () => {
  using home = new DoctorHome();
  const key = join(home.dir, 'mine');
  mkdirSync(home.paths.configDir, { mode: 0o700 });
  writeFileSync(home.paths.configFile, `ssh_key_path = "${key}"\n`);
  assert.match(
    await home.says('config.ssh'),
    /^failure: ssh_key_path: there is no .*mine → ssh-keygen .*\ninfo: /,
  );
  writeFileSync(key, 'key');
  chmodSync(key, 0o640);
  assert.match(
    await home.says('config.ssh'),
    /^failure: ssh_key_path: .*\(mode 0640\) → chmod 600 .*mine\ninfo: /,
  );
  chmodSync(key, 0o600);
  assert.match(await home.says('config.ssh'), /^info: /);
});
