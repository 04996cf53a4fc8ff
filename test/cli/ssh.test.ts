/** `vm ssh`, `vm ssh-proxy`, `ssh-config`: what they ask of the daemon, of this host, and say. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SshSetup } from '../../src/api/results/vm.ts';
import type { BytePipeEnd } from '../../src/cli/exec-session/run-byte-pipe.ts';
import { BangerError } from '../../src/core/errors.ts';
import { type Answers, type FakeOptions, fakeCli, fakeVm } from './fake-cli.ts';

const CONFIG = '/state/ssh/config';
const setup: SshSetup = {
  configFile: CONFIG,
  config: 'Host *.vm\n',
  identityFile: '/state/ssh/id_ed25519',
  knownHostsFile: '/state/ssh/known_hosts',
  host: 'dev.vm',
};
const answers: Answers = {
  'ssh.setup': () => setup,
  'vm.ssh': () => ({ ticket: 'ab'.repeat(32), streamSocketPath: '/s' }),
  'vm.list': () => [fakeVm('dev')],
};

test('vm ssh becomes ssh, with what follows -- as it is', async () => {
  const became: unknown[] = [];
  const become = async (...call: unknown[]): Promise<number> => {
    became.push(call);
    return 3;
  };
  const line = ['vm', 'ssh', 'de', '--', '-L', '1:x:2', 'ls -l', '--', '*'];
  const { status, calls } = await fakeCli(line, { answers, become });
  assert.equal(status, 3);
  assert.deepEqual(calls, [{ method: 'ssh.setup', params: { ref: 'de' } }]);
  const args = ['-F', CONFIG, 'dev.vm', '-L', '1:x:2', 'ls -l', '--', '*'];
  assert.deepEqual(became, [['ssh', args, 'openssh-client']]);
});

test('vm ssh: what keeps it from running ssh has a status of its own', async () => {
  const refuse = (): never => {
    throw new BangerError('invalid_state', 'it is stopped');
  };
  const stopped = await fakeCli(['vm', 'ssh', 'dev'], { answers: { 'ssh.setup': refuse } });
  assert.deepEqual([stopped.status, stopped.stderr], [125, 'banger: it is stopped\n']);
});

async function proxy(end: BytePipeEnd, host = 'dev.vm') {
  return await fakeCli(['vm', 'ssh-proxy', host], { answers, pipe: async () => end });
}

const DONE = { kind: 'done', status: 255 } as const;

test('vm ssh-proxy asks for the VM of that host name, and writes nothing', async () => {
  for (const host of ['dev.vm', 'DEV.VM', 'dev']) {
    const { status, stdout, stderr, calls } = await proxy(
      { result: DONE, hasSpoken: true, complaint: 'x' },
      host,
    );
    assert.deepEqual([status, stdout, stderr], [0, '', '']);
    assert.deepEqual(calls, [{ method: 'vm.ssh', params: { name: 'dev' } }]);
  }
  assert.equal((await proxy({ result: null, hasSpoken: false, complaint: '' })).status, 0);
});

test('vm ssh-proxy tells an image without sshd from one that does not start, and both from a VM that is not there', async () => {
  const none = await proxy({ result: { kind: 'done', status: 127 }, hasSpoken: false, complaint: '' });
  assert.deepEqual([none.status, none.stdout], [1, '']);
  assert.match(none.stderr, /has no ssh server in its image.*\n.*apt-get install -y openssh-server/);
  const broken = await proxy({ result: DONE, hasSpoken: false, complaint: 'no hostkeys available' });
  assert.match(broken.stderr, /does not start: no hostkeys available\n/);
  const lost = await proxy({
    result: { kind: 'failed', errno: 104, text: 'channel: it ended' },
    hasSpoken: true,
    complaint: '',
  });
  assert.match(lost.stderr, /connection to the guest was lost: it ended\n/);
  for (const { status } of [broken, lost]) assert.equal(status, 1);
});

/** `ssh-config` with a file that is a text. */
async function sshConfig(flags: string, file: string | null, options: FakeOptions = {}) {
  const paths: string[] = [];
  let text = file;
  const editFile: FakeOptions['editFile'] = async (path, change) => {
    paths.push(path);
    text = change(file);
    return text !== file;
  };
  const result = await fakeCli(['ssh-config', ...flags.split(' ')], {
    answers,
    editFile,
    homeOfUser: '/home/dev',
    ...options,
  });
  return { ...result, paths, text };
}

test('ssh-config prints the settings; --install includes them once, --uninstall gives the file back', async () => {
  assert.equal((await fakeCli(['ssh-config'], { answers })).stdout, 'Host *.vm\n');
  for (const before of [null, '', 'Host *\r\n  User x']) {
    const once = await sshConfig('--install', before);
    assert.deepEqual([once.status, once.paths], [0, ['/home/dev/.ssh/config']]);
    assert.match(once.stdout, /includes banger now: ssh NAME\.vm\n$/);
    assert.match(once.text ?? '', /^# >>> banger.*\nInclude "\/state\/ssh\/config"\n# <<< banger\n/);
    const twice = await sshConfig('--install', once.text);
    assert.equal(twice.text, once.text);
    assert.match(twice.stdout, /already/);
    assert.equal((await sshConfig('--uninstall', once.text)).text, before);
  }
  assert.equal((await sshConfig('--uninstall', 'Host *\n')).text, 'Host *\n');
  const without = await sshConfig('--uninstall', null);
  assert.equal(without.text, null);
  assert.deepEqual(without.connects, []);
});

test('ssh-config leaves the lines of another instance alone, unless that is gone', async () => {
  const other: Answers = { 'ssh.setup': () => ({ ...setup, configFile: '/other/config' }) };
  const { text: theirs } = await sshConfig('--install', 'Host *\n', { answers: other });
  for (const flag of ['--install', '--uninstall']) {
    const refused = await sshConfig(flag, theirs, { existingFiles: ['/other/config'] });
    assert.deepEqual([refused.status, refused.text], [1, theirs]);
    assert.match(refused.stderr, /another banger: .*includes \/other\/config\n/);
  }
  const taken = await sshConfig('--install', theirs);
  assert.match(taken.text ?? '', /Include "\/state\/ssh\/config"/);
  assert.doesNotMatch(taken.text ?? '', /other/);
  assert.equal((await sshConfig('--uninstall', theirs)).text, 'Host *\n');
});

test('ssh-config changes the file that ssh reads, or the one it is given, and says so where HOME is another', async () => {
  const paths: string[] = [];
  for (const flag of ['--install', '--uninstall']) {
    const elsewhere = await sshConfig(flag, 'Host *\n', { env: { HOME: '/tmp/x' } });
    assert.equal(elsewhere.stderr, 'banger: that is the file ssh reads, and not the one in HOME (/tmp/x)\n');
    const same = await sshConfig(flag, 'Host *\n', { env: { HOME: '/home/dev' } });
    const given = await sshConfig(`${flag} --file vms`, 'Host *\n', { env: { HOME: '/tmp/x' } });
    assert.equal(same.stderr + given.stderr, '');
    paths.push(...[elsewhere, same, given].flatMap((each) => each.paths));
  }
  const [own, file] = ['/home/dev/.ssh/config', '/home/dev/project/vms'];
  assert.deepEqual(paths, [own, own, file, own, own, file]);
});

test('ssh-config: wrong use, and a user that ssh does not know', async () => {
  for (const flags of [
    ['--install', '--uninstall'],
    ['--file', 'x'],
  ]) {
    assert.equal((await fakeCli(['ssh-config', ...flags], { answers })).status, 2);
  }
  const nobody = await fakeCli(['ssh-config', '--install'], { answers, env: { HOME: '/home/dev' } });
  assert.deepEqual([nobody.status, /user database/.test(nobody.stderr)], [1, true]);
});

test('names of VMs are completed, and the proxy is nothing to complete', async () => {
  const words = async (...line: string[]) =>
    (await fakeCli(['__complete', '--', ...line], { answers })).stdout
      .split('\n')
      .flatMap((line) => line.split('\t')[0] || []);
  assert.deepEqual(await words('vm', 'ssh', ''), ['dev']);
  assert.deepEqual((await words('vm', 'ssh')).length, 1);
});
