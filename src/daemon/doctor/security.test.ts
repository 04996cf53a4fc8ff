import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { DoctorHome } from '../../../test/helpers/doctor-home.ts';
import { createRunner } from '../../host/runner.ts';
import { vmFiles } from '../vm-files.ts';
import type { Repair } from './check.ts';
import { DoctorContext } from './context.ts';
import { CHECKS } from './doctor.ts';
import { thisHost } from './host-facts.ts';

const needsRoot = { skip: process.geteuid?.() !== 0 && 'only root can give files away' };
const OTHER = 12_345;

function mode(path: string): string {
  return (statSync(path).mode & 0o7777).toString(8);
}

function written(path: string, bits: number): string {
  writeFileSync(path, '');
  chmodSync(path, bits);
  return path;
}

/** Says so, and mends it by chmod; then it says no more. */
async function isMended(
  home: DoctorHome,
  id: string,
  path: string,
  severity: string,
  wanted: string,
): Promise<void> {
  const before = mode(path);
  const line = (await home.says(id)).split('\n').find((one) => one.includes(`${path} is `));
  assert.ok(line !== undefined, `${id} says nothing of ${path}`);
  assert.ok(line.startsWith(`${severity}: `) && line.endsWith(`→ chmod ${wanted} ${path} [fixable]`), line);
  assert.ok(line.includes(`(mode ${before.padStart(4, '0')})`), line);
  const what = `chmod ${wanted} ${path}`;
  assert.deepEqual(
    (await home.fix(true, id)).filter((fix) => fix.what === what),
    [{ id, what, done: null, error: null }],
  );
  assert.equal(mode(path), before);
  assert.deepEqual(
    (await home.fix(false, id)).filter((fix) => fix.what === what),
    [{ id, what, done: true, error: null }],
  );
  assert.equal(mode(path), wanted);
  assert.ok(!(await home.says(id)).includes(`${path} is `));
}

const IDS = [
  'directories',
  'state-files',
  'snapshots',
  'ssh-keys',
  'vm-files',
  'sockets',
  'config-file',
  'parents',
];

test('nothing yet, and a home as the daemon makes it, are fine', async () => {
  using home = new DoctorHome();
  for (const id of [...IDS, 'user']) assert.match(await home.says(`security.${id}`), /^ok: /, id);
  await home.populate();
  for (const id of [...IDS, 'user']) assert.match(await home.says(`security.${id}`), /^ok: [^\n]*$/, id);
});

test('security.directories: modes', async () => {
  using home = new DoctorHome();
  const { paths } = home.makeDirectories();
  for (const [path, bits, severity] of [
    [paths.stateDir, 0o755, 'failure'],
    [paths.cacheDir, 0o711, 'failure'],
    [paths.runtimeDir, 0o500, 'failure'],
    [paths.vmsDir, 0o750, 'warning'],
    [paths.vmRuntimesDir, 0o777, 'warning'],
    [paths.initramfsDir, 0o755, 'warning'],
  ] as const) {
    chmodSync(path, bits);
    await isMended(home, 'security.directories', path, severity, '700');
  }
});

test('security.directories: a link, another kind, another owner', async () => {
  using home = new DoctorHome();
  const { paths } = home.makeDirectories();
  renameSync(paths.imagesDir, join(home.dir, 'elsewhere'));
  symlinkSync(join(home.dir, 'elsewhere'), paths.imagesDir);
  assert.match(await home.says('security.directories'), /^info: .*images is a symbolic link$/);
  renameSync(paths.cacheDir, join(home.dir, 'cache-elsewhere'));
  symlinkSync(join(home.dir, 'cache-elsewhere'), paths.cacheDir);
  assert.match(await home.says('security.directories'), /failure: .*cache is a symbolic link → [^[]*$/m);
  rmSync(paths.cacheDir);
  writeFileSync(paths.cacheDir, '');
  assert.match(await home.says('security.directories'), /failure: .*cache is not a directory → mv [^[]*$/m);
});

test('security.directories: what belongs to somebody else is not touched', needsRoot, async () => {
  using home = new DoctorHome();
  const { paths } = home.makeDirectories();
  chownSync(paths.stateDir, OTHER, OTHER);
  chmodSync(paths.stateDir, 0o777);
  assert.match(
    await home.says('security.directories'),
    /^failure: .*state belongs to uid 12345, not to uid 0 → sudo chown 0 [^[]*$/m,
  );
  assert.deepEqual(await home.fix(false, 'security.directories'), []);
  assert.equal(mode(paths.stateDir), '777');
});

test('security.state-files', async () => {
  using home = new DoctorHome();
  await home.populate();
  const { paths } = home;
  const id = 'security.state-files';
  chmodSync(paths.stateDb, 0o644);
  await isMended(home, id, paths.stateDb, 'failure', '600');
  await isMended(home, id, written(paths.lockFile, 0o666), 'failure', '600');
  await isMended(home, id, written(paths.logFile, 0o644), 'warning', '600');
  await isMended(home, id, written(`${paths.stateDb}.pre-3`, 0o640), 'warning', '600');
  await isMended(home, id, written(paths.probeFile, 0o644), 'warning', '600');
});

test('a link in the place of a file is never followed', async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  const victim = written(join(home.dir, 'victim'), 0o644);
  symlinkSync(victim, home.paths.logFile);
  assert.match(
    await home.says('security.state-files'),
    /^warning: .*bangerd\.log is a symbolic link → [^[]*$/,
  );
  assert.deepEqual(await home.fix(false, 'security.state-files'), []);
  assert.equal(mode(victim), '644');
});

/** The repair that the first finding of a check offers, before it is applied. */
async function repairOf(home: DoctorHome, id: string): Promise<Repair> {
  const setting = { paths: home.paths, env: {}, version: '', guestBinDir: '', runner: createRunner() };
  const options = { deep: false, progress: () => undefined };
  await using context = new DoctorContext({ ...setting, host: thisHost() }, options);
  const check = CHECKS.find((one) => one.id === id);
  assert.ok(check);
  const [repair] = [await check.run(context, AbortSignal.timeout(10_000))]
    .flat()
    .flatMap((one) => one.repair ?? []);
  assert.ok(repair);
  return repair;
}

test('what takes the place of a file between the look and the repair is not touched', async () => {
  using home = new DoctorHome();
  const { logFile } = home.makeDirectories().paths;
  const victim = written(join(home.dir, 'victim'), 0o644);
  written(logFile, 0o644);
  const repair = await repairOf(home, 'security.state-files');
  rmSync(logFile);
  symlinkSync(victim, logFile);
  await assert.rejects(repair.apply());
  assert.equal(mode(victim), '644');
  rmSync(logFile);
  mkdirSync(logFile);
  chmodSync(logFile, 0o755);
  await assert.rejects(repair.apply(), { code: 'permission' });
  assert.equal(mode(logFile), '755');
});

test('what was given away between the look and the repair is not touched', needsRoot, async () => {
  using home = new DoctorHome();
  const { logFile } = home.makeDirectories().paths;
  written(logFile, 0o644);
  const repair = await repairOf(home, 'security.state-files');
  chownSync(logFile, OTHER, OTHER);
  await assert.rejects(repair.apply(), { code: 'permission' });
  assert.equal(mode(logFile), '644');
});

test('security.snapshots', async () => {
  using home = new DoctorHome();
  const { snapshotsDir } = home.makeDirectories().paths;
  mkdirSync(join(snapshotsDir, 'sha256'), { recursive: true, mode: 0o700 });
  mkdirSync(join(snapshotsDir, 'refs'), { mode: 0o700 });
  const path = written(join(snapshotsDir, 'sha256', 'a'.repeat(64)), 0o644);
  await isMended(home, 'security.snapshots', path, 'warning', '600');
  await isMended(
    home,
    'security.snapshots',
    written(join(snapshotsDir, 'refs', 'latest'), 0o666),
    'warning',
    '600',
  );
  chmodSync(snapshotsDir, 0o755);
  await isMended(home, 'security.snapshots', snapshotsDir, 'warning', '700');
});

test('security.ssh-keys', async () => {
  using home = new DoctorHome();
  const { sshDir } = home.makeDirectories().paths;
  mkdirSync(sshDir, { mode: 0o700 });
  written(join(sshDir, 'id_ed25519.pub'), 0o644);
  assert.match(await home.says('security.ssh-keys'), /^ok/);
  await isMended(home, 'security.ssh-keys', written(join(sshDir, 'id_ed25519'), 0o644), 'failure', '600');
  await isMended(home, 'security.ssh-keys', written(join(sshDir, 'known_hosts'), 0o644), 'warning', '600');
});

test('security.vm-files', async () => {
  using home = new DoctorHome();
  const { vm } = await home.populate();
  const files = vmFiles(home.paths, vm.id);
  chmodSync(files.rootDisk, 0o644);
  await isMended(home, 'security.vm-files', files.rootDisk, 'warning', '600');
  chmodSync(files.dir, 0o755);
  await isMended(home, 'security.vm-files', files.dir, 'warning', '700');
  symlinkSync('/etc/passwd', files.consoleLog);
  assert.match(await home.says('security.vm-files'), /^warning: .*console\.log is a symbolic link/);
});

test('security.sockets', async (context) => {
  using home = new DoctorHome();
  const { socketPath, vmRuntimesDir } = home.makeDirectories().paths;
  const server = createServer(() => undefined).listen(socketPath);
  context.after(() => server.close());
  await once(server, 'listening');
  chmodSync(socketPath, 0o777);
  await isMended(home, 'security.sockets', socketPath, 'warning', '700');
  const dir = join(vmRuntimesDir, '0123456789ab');
  mkdirSync(dir);
  chmodSync(dir, 0o755);
  await isMended(home, 'security.sockets', dir, 'warning', '700');
});

test('security.config-file', async () => {
  using home = new DoctorHome();
  const { configDir, configFile } = home.paths;
  mkdirSync(configDir);
  chmodSync(configDir, 0o755);
  written(configFile, 0o644);
  assert.match(await home.says('security.config-file'), /^ok/);
  chmodSync(configFile, 0o664);
  await isMended(home, 'security.config-file', configFile, 'failure', '644');
  chmodSync(configDir, 0o777);
  await isMended(home, 'security.config-file', configDir, 'failure', '755');
});

test('security.config-file: somebody else’s', needsRoot, async () => {
  using home = new DoctorHome();
  mkdirSync(home.paths.configDir, { mode: 0o755 });
  written(home.paths.configFile, 0o644);
  chownSync(home.paths.configFile, OTHER, OTHER);
  assert.match(await home.says('security.config-file'), /^failure: .*belongs to uid 12345/);
  // Root's is as good as ours.
  chownSync(home.paths.configFile, 0, 0);
  assert.match(await home.says('security.config-file', { host: { uid: OTHER } }), /^ok/);
});

test('security.parents', async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  assert.match(await home.says('security.parents'), /^ok/);
  chmodSync(home.dir, 0o770);
  assert.match(
    await home.says('security.parents'),
    /^warning: its group can rename what is in .* \(mode 0770\) → chmod go-w/,
  );
  chmodSync(home.dir, 0o777);
  assert.match(await home.says('security.parents'), /^failure: everybody can rename what is in .*[^\]]$/);
  chmodSync(home.dir, 0o1777);
  assert.match(await home.says('security.parents'), /^ok/);
});

test('security.parents: of somebody else, and behind a link', needsRoot, async () => {
  using home = new DoctorHome();
  home.makeDirectories();
  using other = new DoctorHome();
  lchownSync(other.dir, OTHER, OTHER);
  const below = join(home.dir, 'below');
  symlinkSync(other.dir, below);
  const paths = { ...home.paths, runtimeDir: join(below, 'run') };
  assert.match(
    await home.says('security.parents', { paths }),
    new RegExp(`^warning: .*${basename(other.dir)} belongs to uid`),
  );
});

test('security.user', needsRoot, async () => {
  using home = new DoctorHome();
  assert.equal(await home.says('security.user'), 'ok: root (uid 0)');
  chownSync(home.dir, OTHER, OTHER);
  const paths = { ...home.paths, home: null };
  const said = await home.says('security.user', { paths });
  assert.match(said, /^warning: this is uid 0, and HOME \(.*\) belongs to uid 12345/);
  // BANGER_HOME is a directory of its own, whoever's the home is.
  assert.match(await home.says('security.user'), /^ok/);
});
