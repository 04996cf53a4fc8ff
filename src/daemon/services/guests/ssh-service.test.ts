import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import type { GuestConfig } from '../../../core/guestconfig/guest-config.ts';
import type { VmRecord, VmState } from '../../../core/model/vm.ts';
import { resolveReference } from '../../../core/references.ts';
import { resolvePaths } from '../../../host/paths.ts';
import { createRunner } from '../../../host/runner.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';
import type { VmSleep } from '../vms/vm-sleep.ts';
import { SshService } from './ssh-service.ts';

const { signal } = new AbortController();
let home = '';
let vms: VmRecord[] = [];
/** What guests were told, in order. */
let told: { vm: string; config: GuestConfig }[] = [];
let atTicket: string[] = [];

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'ssh-'));
  vms = [];
  told = [];
  atTicket = [];
});
afterEach(() => rmSync(home, { recursive: true }));

function addVm(name: string, state: VmState = 'running', runtime: VmRecord['runtime'] = {}): VmRecord {
  const id = (vms.length + 1).toString(16).padStart(32, '0');
  const vm = { id, name, state, runtime } as VmRecord;
  mkdirSync(join(home, 'state', 'vms', id), { recursive: true, mode: 0o700 });
  vms.push(vm);
  return vm;
}

function service(keyPath: string | null = null): SshService {
  const paths = resolvePaths({ BANGER_HOME: home }, 0);
  const registry = {
    rows: () => vms,
    resolve: (ref: string) => resolveReference(ref, vms),
    find: (id: string) => vms.find((vm) => vm.id === id),
    files: (id: string) => ({ dir: join(paths.vmsDir, id) }),
  } as unknown as VmRegistry;
  const sleep = {
    running: async (ref: string) => {
      const vm = resolveReference(ref, vms);
      const configure = async (config: GuestConfig) => {
        told.push({ vm: vm.name, config });
      };
      return { vm, live: { agent: async () => ({ configure }) } };
    },
  } as unknown as VmSleep;
  const exec = {
    program: () => {
      atTicket.push(knownHosts());
      return { ticket: 'ab'.repeat(32), streamSocketPath: '/s' };
    },
  };
  const deps = { registry, sleep, exec, runner: createRunner(), paths };
  return new SshService({ ...deps, keyPath, launcher: '/opt/banger', env: {} });
}

function inSsh(name: string): string {
  return join(home, 'state', 'ssh', name);
}

function knownHosts(): string {
  return readFileSync(inSsh('known_hosts'), 'utf8');
}

/** The public part of the host key that a guest was given last. */
function keyGivenTo(vm: string): string {
  const { config } = told.findLast((one) => one.vm === vm) ?? assert.fail(`${vm} was told nothing`);
  const key = config.files.find(({ path }) => path.endsWith('/host_key')) ?? assert.fail();
  assert.equal(key.mode, 0o600);
  const file = join(home, 'given');
  writeFileSync(file, key.content, { mode: 0o600 });
  return execFileSync('ssh-keygen', ['-y', '-f', file], { encoding: 'utf8' })
    .split(' ')
    .slice(0, 2)
    .join(' ');
}

test('a client gets a key, a file of known hosts, and settings that name both', async () => {
  addVm('dev');
  const setup = await service().setup('de', signal);
  assert.equal(setup.host, 'dev.vm');
  assert.equal(readFileSync(setup.configFile, 'utf8'), setup.config);
  for (const path of [setup.identityFile, setup.knownHostsFile])
    assert.ok(setup.config.includes(`"${path}"`) && existsSync(path), path);
  assert.match(setup.config, /ProxyCommand env BANGER_HOME='\/tmp\/.*' '\/opt\/banger' vm ssh-proxy '%h'\n/);
  const { ino, mtimeMs } = statSync(setup.configFile);
  const again = await service().setup(undefined, signal);
  assert.deepEqual({ ...again, host: 'dev.vm' }, setup);
  const after = statSync(setup.configFile);
  assert.deepEqual([after.ino, after.mtimeMs], [ino, mtimeMs]);
});

test('the key is pinned before the connection can be made, and the guest has it, and nothing else of it is changed', async () => {
  addVm('dev');
  await service().connect('dev', signal);
  const key = keyGivenTo('dev');
  assert.ok(atTicket[0]?.startsWith(`dev.vm,[dev.vm]:* ${key} `), atTicket[0]);
  const { files, entropy, ...rest } = told[0]?.config ?? assert.fail();
  assert.equal(entropy.length, 0);
  assert.ok(files.every(({ path }) => path.startsWith('/run/banger-ssh/')));
  assert.ok(
    Object.values(rest).every((value) => !value),
    JSON.stringify(rest, (_, v) => String(v)),
  );
  const authorized = files.find(({ path }) => path.endsWith('/authorized_keys'))?.content ?? assert.fail();
  const own = readFileSync(inSsh('id_ed25519.pub'), 'utf8');
  assert.equal(`${Buffer.from(authorized).toString().trim()} banger\n`, own);
});

test('each VM has a key of its own, which stays', async () => {
  for (const name of ['dev', 'copy']) addVm(name);
  const one = service();
  await Promise.all(['dev', 'copy', 'dev', 'dev'].map((name) => one.connect(name, signal)));
  const [dev, copy] = [keyGivenTo('dev'), keyGivenTo('copy')];
  assert.notEqual(dev, copy);
  assert.equal(knownHosts().split('\n').length, 3);
  // Another daemon, later.
  await service().connect('dev', signal);
  assert.equal(keyGivenTo('dev'), dev);
});

test('a name that is used again is another VM’s, and a VM that is gone is forgotten', async () => {
  const one = service();
  const old = addVm('dev');
  addVm('other');
  await one.connect('dev', signal);
  await one.connect('other', signal);
  const before = keyGivenTo('dev');
  await one.forget(old.id);
  assert.doesNotMatch(knownHosts(), /dev\.vm/);
  assert.match(knownHosts(), /other\.vm/);
  // Deleted while nobody looked: its line is still there.
  await one.connect('dev', signal);
  vms = vms.filter((vm) => vm !== old);
  vms.push({ ...old, id: 'f'.repeat(32) });
  mkdirSync(join(home, 'state', 'vms', 'f'.repeat(32)));
  await one.connect('dev', signal);
  assert.notEqual(keyGivenTo('dev'), before);
  assert.equal(knownHosts().match(/dev\.vm,/g)?.length, 1);
  assert.ok(knownHosts().includes(keyGivenTo('dev')));
});

test('a host is a name in full; the command takes what other commands take', async () => {
  addVm('dev');
  const one = service();
  await assert.rejects(one.connect('de', signal), { code: 'not_found', hint: /NAME\.vm/ });
  await assert.rejects(one.connect('', signal), { code: 'not_found' });
  await assert.rejects(one.setup('nope', signal), { code: 'not_found' });
  assert.deepEqual(told, []);
});

test('a VM that sleeps will be woken; one that does not run is said to be stopped before ssh is run', async () => {
  addVm('idle', 'paused', { heldBy: 'idle' });
  addVm('held', 'paused', { heldBy: 'user' });
  addVm('off', 'stopped');
  const one = service();
  assert.equal((await one.setup('idle', signal)).host, 'idle.vm');
  await assert.rejects(one.setup('held', signal), { code: 'invalid_state', hint: 'banger vm resume held' });
  await assert.rejects(one.setup('off', signal), { code: 'invalid_state', hint: 'banger vm start off' });
});

test('a key of the user’s own is used where it lies, and looked at again when it has changed', async () => {
  addVm('dev');
  const mine = join(home, 'mine');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', mine]);
  const one = service(mine);
  assert.equal((await one.setup(undefined, signal)).identityFile, mine);
  assert.equal(existsSync(inSsh('id_ed25519')), false);
  chmodSync(mine, 0o644);
  await assert.rejects(one.connect('dev', signal), { code: 'permission', hint: `chmod 600 ${mine}` });
  chmodSync(mine, 0o600);
  await one.connect('dev', signal);
  writeFileSync(mine, 'damaged');
  await assert.rejects(one.setup(undefined, signal), { code: 'verify_failed' });
  await assert.rejects(service(join(home, 'none')).setup(undefined, signal), { code: 'not_found' });
  assert.equal(existsSync(join(home, 'none')), false);
});
