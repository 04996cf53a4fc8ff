import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { DoctorHome } from '../../../test/helpers/doctor-home.ts';

function configured(text: string): DoctorHome {
  const home = new DoctorHome();
  mkdirSync(home.paths.configDir, { mode: 0o700 });
  writeFileSync(home.paths.configFile, text);
  return home;
}

test('config.file', async () => {
  using none = new DoctorHome();
  assert.match(await none.says('config.file'), /^ok: no .*config\.toml: defaults$/);
  using good = configured('accel = "tcg"\n');
  assert.match(await good.says('config.file'), /^ok: .*config\.toml$/);
  using unknown = configured('accel = "tcg"\n\n[vm_defaults]\nvcpu = 2\n  memroy = "4GiB"\n');
  assert.match(
    await unknown.says('config.file'),
    /^failure: .*config\.toml:5:3: unknown key "memroy" in \[vm_defaults\] → did you mean memory\?$/,
  );
  using several = configured('a = 1\nb = 1\nc = 1\nd = 1\ne = 1\nf = 1\ng = 1\n');
  assert.match(
    await several.says('config.file'),
    /:5:1: [^]*failure: 2 more mistakes there → banger config check$/,
  );
  using syntax = configured('accel = \n');
  assert.match(await syntax.says('config.file'), /^failure: .*config\.toml:1:\d+: /);
  using wrong = configured('accel = "fast"\n');
  assert.match(await wrong.says('config.file'), /^failure: .*:1:1: accel: must be one of/);
});

test('config.environment', async () => {
  using home = new DoctorHome();
  const says = async (env: Record<string, string>): Promise<string> =>
    await home.says('config.environment', { env });
  assert.equal(await says({}), 'ok: nothing set');
  assert.equal(await says({ BANGER_HOME: '/x', BANGER_DEBUG: '1' }), 'ok: BANGER_DEBUG, BANGER_HOME');
  assert.match(
    await says({ BANGER_HOEM: '/x' }),
    /^warning: BANGER_HOEM is set, .*; did you mean BANGER_HOME\? → unset BANGER_HOEM$/,
  );
  assert.match(
    await says({ BANGER_LOG_LEVEL: 'loud' }),
    /^failure: BANGER_LOG_LEVEL is "loud".*→ allowed: debug/,
  );
  assert.match(await says({ BANGER_LOG_LEVEL: 'debug' }), /^ok/);
  assert.match(await says({ XDG_STATE_HOME: 'state' }), /^warning: XDG_STATE_HOME is not an absolute path/);
  assert.match(await says({ XDG_STATE_HOME: 'state', BANGER_HOME: '/x' }), /^ok/);
});

test('a wrong environment does not spoil what the file says', async () => {
  using home = configured('accel = "tcg"\n');
  assert.match(await home.says('config.file', { env: { BANGER_LOG_LEVEL: 'loud' } }), /^ok/);
});

test('config.qemu-bin', async () => {
  using home = configured('qemu_bin = "/no/such/qemu"\n');
  assert.match(
    await home.says('config.qemu-bin'),
    /^failure: \/no\/such\/qemu cannot be executed: no such file or directory → correct/,
  );
  writeFileSync(home.paths.configFile, `qemu_bin = "${process.execPath}"\n`);
  assert.match(await home.says('config.qemu-bin'), /^ok: /);
  writeFileSync(home.paths.configFile, '');
  assert.match(await home.says('config.qemu-bin'), /^ok: not set/);
});

test('config.default-image', async () => {
  using home = configured('');
  assert.match(await home.says('config.default-image'), /^info: debian-bookworm is not here yet/);
  writeFileSync(home.paths.configFile, 'default_image_name = "my-own"\n');
  assert.match(
    await home.says('config.default-image'),
    /^failure: my-own is not here, .*→ .*debian-bookworm$/,
  );
  home.makeDirectories();
  await home.addImage('my-own');
  assert.equal(await home.says('config.default-image'), 'ok: my-own is here');
});

test('config.vm-defaults', async () => {
  using home = configured('');
  const host = { cpus: 16, memoryMib: 65_536 };
  assert.equal(
    await home.says('config.vm-defaults', { host }),
    'ok: 4 vCPUs (auto), 8192 MiB (auto), disk 8 GiB (builtin)',
  );
  writeFileSync(home.paths.configFile, '[vm_defaults]\nvcpu = 3\nmemory = "1TiB"\n');
  assert.match(
    await home.says('config.vm-defaults', { host }),
    /^info: not known: vm_defaults: 1048576 MiB of memory are more/,
  );
  assert.match(
    await home.says('config.file', { host }),
    /^failure: .*config\.toml:3:1: vm_defaults\.memory: 1048576 MiB of memory are more .* → mend /,
  );
  writeFileSync(home.paths.configFile, '[vm_defaults]\nvcpu = 3\n');
  assert.match(await home.says('config.vm-defaults', { host }), /^ok: 3 vCPUs \(config\)/);
  assert.match(await home.says('config.file', { host }), /^ok/);
});
