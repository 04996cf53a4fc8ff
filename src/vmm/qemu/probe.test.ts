import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { after, test } from 'node:test';
import { encodeFrame, FRAME_TYPES } from '../../core/channel/frame.ts';
import { encodePreamble, PreambleScanner } from '../../core/channel/preamble.ts';
import { BangerError } from '../../core/errors.ts';
import { isSameProcess, processIdentity } from '../../host/proc.ts';
import type { Machine, MachineHandles, MachineSpec, Platform, ProbeOptions } from '../driver.ts';
import { type ProbePorts, probe } from './probe.ts';

const scratchDir = await mkdtemp(join(tmpdir(), 'probe-test-'));
after(() => rm(scratchDir, { recursive: true }));

/** What the guest of a fake machine does. */
type Fate = 'hello' | 'silence' | 'dead at start' | 'dies under the connection';

interface Fakes {
  readonly ports: ProbePorts;
  /** `kvm/microvm` … in the order of the launches. */
  readonly launched: string[];
  /** Machines neither killed nor never started. */
  readonly alive: Set<Machine>;
}

function fakes(fates: Partial<Record<string, Fate>>, changes: Partial<ProbePorts> = {}): Fakes {
  const launched: string[] = [];
  const alive = new Set<Machine>();
  const launch = async (spec: MachineSpec, onSpawn: (handles: MachineHandles) => Promise<void>) => {
    const name = `${spec.platform.accelerator}/${spec.platform.machine}`;
    launched.push(name);
    const machine = fakeMachine(fates[name] ?? 'silence', () => alive.delete(machine));
    alive.add(machine);
    await writeFile(spec.consoleLogPath, 'Booting\n');
    await onSpawn(machine.handles);
    if (fates[name] === 'dead at start') {
      alive.delete(machine);
      throw new BangerError('vmm_failed', 'QEMU ended (exit status 1): bad option');
    }
    return machine;
  };
  const ports: ProbePorts = {
    inspect: async () => ({ version: '7.2.22', machines: new Set(['microvm', 'q35']) }),
    launch,
    tscKhz: async () => 2_000_000,
    kvmPath: '/dev/null',
    boundMs: ({ accelerator, machine }) => {
      return (fates[`${accelerator}/${machine}`] ?? 'silence') === 'silence' ? 40 : 60_000;
    },
    ...changes,
  };
  return { ports, launched, alive };
}

function fakeMachine(fate: Fate, onKill: () => void): Machine {
  let connections = 0;
  return {
    handles: {
      driver: 'qemu',
      pid: 2 ** 22 + 1,
      pidStartTicks: 1,
      hostBootId: 'x',
      controlSocketPath: '',
      channelSocketPath: '',
      argv: [],
    },
    exited: new Promise(() => {}),
    connectChannel: async () => {
      connections += 1;
      if (connections > 1) throw new BangerError('vmm_failed', 'QEMU ended (SIGABRT): failed to set MSR');
      return fakeChannel(fate);
    },
    pause: async () => {},
    resume: async () => {},
    runState: async () => 'running',
    save: async () => assert.fail('a probe saves nothing'),
    plug: async () => {},
    prepareSave: async () => {},
    kill: async () => onKill(),
    release: () => {},
  };
}

function fakeChannel(fate: Fate): Duplex {
  const scanner = new PreambleScanner();
  const channel = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      const nonce = scanner.push(chunk)?.nonce;
      if (fate === 'dies under the connection') channel.destroy();
      else if (fate === 'hello' && nonce !== undefined) {
        channel.push(Buffer.concat([encodePreamble(nonce), encodeFrame(FRAME_TYPES.hello, 0)]));
      }
      done();
    },
  });
  return channel;
}

function optionsOf(changes: Partial<ProbeOptions> = {}): ProbeOptions & { readonly steps: string[] } {
  const steps: string[] = [];
  return {
    kernelPath: '/k',
    initramfsFor: async (transport) => `/initramfs-${transport}`,
    scratchDir,
    accel: 'auto',
    signal: new AbortController().signal,
    onStep: (text) => steps.push(text),
    steps,
    ...changes,
  };
}

async function assertClean(fake: Fakes): Promise<void> {
  assert.equal(fake.alive.size, 0, 'every machine was ended');
  assert.deepEqual(await readdir(scratchDir), []);
}

test('KVM first; what works is chosen at once', async () => {
  const fake = fakes({ 'kvm/microvm': 'hello' });
  const { chosen, attempts } = await probe(fake.ports, optionsOf());
  assert.deepEqual(chosen, {
    accelerator: 'kvm',
    machine: 'microvm',
    transport: 'mmio',
    vmmVersion: '7.2.22',
  });
  assert.deepEqual(
    attempts.map(({ works }) => works),
    [true],
  );
  await assertClean(fake);
});

test('a KVM that hangs costs its bound once, and the reason is kept', async () => {
  const fake = fakes({ 'kvm/microvm': 'silence', 'tcg/microvm': 'hello' });
  const options = optionsOf();
  const { chosen, attempts } = await probe(fake.ports, options);
  assert.equal(chosen.accelerator, 'tcg');
  assert.deepEqual(fake.launched, ['kvm/microvm', 'tcg/microvm']);
  assert.equal(attempts[0]?.reason, 'no sign of the guest within 40 ms; its console: Booting');
  assert.deepEqual(options.steps, [
    'trying kvm (microvm)',
    'kvm (microvm) does not work here: no sign of the guest within 40 ms; its console: Booting',
    'trying tcg (microvm)',
  ]);
  await assertClean(fake);
});

test('a VMM that ends is quoted, whether before or under the connection', async () => {
  const fake = fakes({
    'kvm/microvm': 'dies under the connection',
    'tcg/microvm': 'dead at start',
    'tcg/q35': 'hello',
  });
  const { chosen, attempts } = await probe(fake.ports, optionsOf());
  assert.equal(chosen.machine, 'q35');
  assert.deepEqual(
    attempts.map(({ reason }) => reason),
    ['QEMU ended (SIGABRT): failed to set MSR', 'QEMU ended (exit status 1): bad option', undefined],
  );
  await assertClean(fake);
});

test('what cannot work is recorded without a boot: no KVM device, no exact rate', async () => {
  const fake = fakes({ 'tcg/q35': 'hello' }, { kvmPath: '/nonexistent/kvm', tscKhz: async () => undefined });
  const { chosen, attempts } = await probe(fake.ports, optionsOf());
  assert.deepEqual([chosen.machine, chosen.transport], ['q35', 'pci']);
  assert.deepEqual(fake.launched, ['tcg/q35']);
  assert.match(attempts[0]?.reason ?? '', /cannot open \/nonexistent\/kvm: no such file or directory/);
  assert.match(attempts[1]?.reason ?? '', /time stamp counter/);
});

test('a build without microvm tries q35 for both accelerators', async () => {
  const inspect: ProbePorts['inspect'] = async () => ({ version: '9.1.0', machines: new Set(['q35']) });
  const fake = fakes({ 'tcg/q35': 'hello' }, { inspect });
  const { chosen } = await probe(fake.ports, optionsOf());
  assert.deepEqual(fake.launched, ['kvm/q35', 'tcg/q35']);
  assert.equal(chosen.vmmVersion, '9.1.0');
});

test('an accelerator asked for by name is tried on every machine type, and no other', async () => {
  for (const accel of ['kvm', 'tcg'] as const) {
    const fake = fakes({});
    await assert.rejects(probe(fake.ports, optionsOf({ accel })), (error) => {
      assert(error instanceof BangerError);
      assert.equal(error.code, 'vmm_failed');
      for (const machine of ['microvm', 'q35'])
        assert(error.message.includes(`${accel} (${machine}): no sign`));
      return true;
    });
    assert.deepEqual(fake.launched, [`${accel}/microvm`, `${accel}/q35`]);
    await assertClean(fake);
  }
});

test('a cancelled probe ends its machine and leaves nothing', async () => {
  const abort = new AbortController();
  const boundMs = (platform: Platform): number => {
    if (platform.accelerator === 'tcg') setImmediate(() => abort.abort());
    return platform.accelerator === 'tcg' ? 60_000 : 10;
  };
  const fake = fakes({}, { boundMs });
  await assert.rejects(probe(fake.ports, optionsOf({ signal: abort.signal })), { code: 'cancelled' });
  assert.deepEqual(fake.launched, ['kvm/microvm', 'tcg/microvm']);
  await assertClean(fake);
});

test('QEMU missing, an initramfs that cannot be built: the probe fails as such', async () => {
  const inspect: ProbePorts['inspect'] = async () => {
    throw new BangerError('dependency_missing', 'QEMU is not installed');
  };
  await assert.rejects(probe(fakes({}, { inspect }).ports, optionsOf()), { code: 'dependency_missing' });
  const initramfsFor = async (): Promise<string> => {
    throw new BangerError('build_failed', 'no agent');
  };
  const fake = fakes({ 'kvm/microvm': 'hello' });
  await assert.rejects(probe(fake.ports, optionsOf({ initramfsFor })), { code: 'build_failed' });
  await assertClean(fake);
});

test('ends what a killed daemon’s probe left, and nothing else', async () => {
  const orphan = spawn('sleep', ['300']);
  const running = spawn('sleep', ['300']);
  try {
    const dead = { pid: 2 ** 22 + 1, pidStartTicks: 1, hostBootId: 'x' };
    const self = processIdentity(process.pid);
    const record = async (name: string, owner: unknown, machine: unknown): Promise<void> => {
      await mkdir(join(scratchDir, name));
      await writeFile(join(scratchDir, name, 'probe.json'), JSON.stringify({ owner, machine }));
    };
    const orphanIdentity = processIdentity(orphan.pid ?? 0);
    const runningIdentity = processIdentity(running.pid ?? 0);
    assert(orphanIdentity !== undefined && runningIdentity !== undefined);
    await record('probe-dead00', dead, orphanIdentity);
    await record('probe-gone00', dead, { ...runningIdentity, pidStartTicks: 7 });
    await record('probe-self00', self, runningIdentity);
    await mkdir(join(scratchDir, 'probe-new000'));
    await mkdir(join(scratchDir, 'probe-old000'));
    await utimes(join(scratchDir, 'probe-old000'), 1, 1);
    await writeFile(join(scratchDir, 'bangerd.sock'), '');

    const ended = once(orphan, 'exit');
    await probe(fakes({ 'kvm/microvm': 'hello' }).ports, optionsOf());
    await ended;
    assert.deepEqual(await readdir(scratchDir), ['bangerd.sock', 'probe-new000', 'probe-self00']);
    assert.equal(isSameProcess(orphanIdentity), false);
    assert.equal(isSameProcess(runningIdentity), true);
  } finally {
    orphan.kill('SIGKILL');
    running.kill('SIGKILL');
  }
});
