import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, test } from 'node:test';
import { BangerError } from '../core/errors.ts';
import { isSameProcess, type ProcessIdentity, processIdentity } from '../host/proc.ts';
import { VmmProcess } from './process.ts';

const dir = await mkdtemp(join(tmpdir(), 'vmm-process-'));
const logPath = join(dir, 'vmm.log');
const program = { title: 'QEMU', installHint: 'apt install qemu' };
after(() => rm(dir, { recursive: true }));

const SLEEP = ['sleep', '300'] as const;

/** A process whose parent, a "daemon before" whom its own parent had left with descriptor 40, has been killed. */
async function orphan(): Promise<ProcessIdentity> {
  const module = new URL('./process.ts', import.meta.url).href;
  const script = `
    const { VmmProcess } = await import(${JSON.stringify(module)});
    const vmm = await VmmProcess.spawn(['sleep', '300'], { program: ${JSON.stringify(program)}, logPath: ${JSON.stringify(logPath)} });
    console.log(JSON.stringify(vmm.identity));
    setInterval(() => {}, 1000);`;
  const daemon = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit', ...Array<'ignore'>(37).fill('ignore'), 'pipe'],
  });
  assert(daemon.stdout !== null);
  const [line] = (await once(daemon.stdout, 'data')) as [Buffer];
  daemon.kill('SIGKILL');
  await once(daemon, 'exit');
  return JSON.parse(line.toString());
}

/** What the process has open, each once, in the order of the descriptors. */
/** Of a program that has been loaded: until then its loader has libraries open. */
async function openFiles(pid: number): Promise<readonly string[]> {
  for (;;) {
    const fds = await readdir(`/proc/${pid}/fd`);
    const links = await Promise.all(
      fds.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '/lib/closed meanwhile')),
    );
    if (!links.some((path) => /^\/(?:usr\/)?(?:lib|etc)/.test(path))) return [...new Set(links)];
    await sleep(5);
  }
}

test('leads its own session, holds nothing open but its log, and sees none of our secrets', async () => {
  process.env['SECRET_TOKEN'] = 'hunter2';
  const vmm = await VmmProcess.spawn(SLEEP, { program, logPath });
  const { pid } = vmm.identity;
  try {
    const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ');
    const [, , processGroup, session] = fields.map(Number);
    assert.deepEqual([processGroup, session], [pid, pid]);
    assert.deepEqual(await openFiles(pid), ['/dev/null', logPath]);
    assert.equal(await readlink(`/proc/${pid}/cwd`), '/');
    assert.doesNotMatch(await readFile(`/proc/${pid}/environ`, 'utf8'), /hunter2|HOME=/);
    assert.equal((await stat(logPath)).mode & 0o777, 0o600);
  } finally {
    await vmm.kill();
  }
});

test('a process outlives the daemon that started it and is found, watched and ended by the next', async () => {
  const identity = await orphan();
  assert.equal(isSameProcess(identity), true, 'it outlives a SIGKILL of its parent');
  assert.deepEqual(await openFiles(identity.pid), ['/dev/null', logPath]);
  const vmm = VmmProcess.adopt(identity, { title: 'QEMU', logPaths: [logPath] });
  assert(vmm !== undefined);
  assert.equal(vmm.exit, undefined);
  await vmm.kill();
  assert.equal(isSameProcess(identity), false);
  assert.deepEqual(await vmm.exited, { exitCode: null, signal: null });
  assert.equal(VmmProcess.adopt(identity, { title: 'QEMU', logPaths: [logPath] }), undefined);
});

test('a descriptor that is handed over is number 3, and nobody else’s afterwards', async () => {
  const path = join(dir, 'state');
  await writeFile(path, 'state');
  let vmm: VmmProcess;
  {
    await using file = await open(path, 'r');
    vmm = await VmmProcess.spawn(SLEEP, { program, logPath, inheritFd: file.fd });
  }
  const { pid } = vmm.identity;
  try {
    assert.equal(await readlink(`/proc/${pid}/fd/3`), path);
    assert.deepEqual(await openFiles(pid), ['/dev/null', logPath, path]);
    const other = await VmmProcess.spawn(SLEEP, { program, logPath });
    assert.deepEqual(await openFiles(other.identity.pid), ['/dev/null', logPath]);
    await other.kill();
  } finally {
    await vmm.kill();
  }
});

test('the end of an adopted process is noticed when somebody else ends it', async () => {
  const identity = await orphan();
  const vmm = VmmProcess.adopt(identity, { title: 'QEMU', logPaths: [logPath] });
  process.kill(identity.pid, 'SIGKILL');
  assert.deepEqual(await vmm?.exited, { exitCode: null, signal: null });
});

test('a child’s end is reported with its status or signal', async () => {
  const failing = await VmmProcess.spawn(['sh', '-c', 'sleep 0.05; exit 7'], { program, logPath });
  assert.deepEqual(await failing.exited, { exitCode: 7, signal: null });
  assert.deepEqual(failing.exit, { exitCode: 7, signal: null });
  const killed = await VmmProcess.spawn(SLEEP, { program, logPath });
  await killed.kill();
  assert.deepEqual(await killed.exited, { exitCode: null, signal: 'SIGKILL' });
});

test('kill works again, at once, from several callers, and after release', async () => {
  const vmm = await VmmProcess.spawn(SLEEP, { program, logPath });
  vmm.release();
  vmm.release();
  assert.equal(isSameProcess(vmm.identity), true, 'release leaves it alone');
  await Promise.all([vmm.kill(), vmm.kill()]);
  await vmm.kill();
  assert.equal(isSameProcess(vmm.identity), false);
});

test('another process that was given the pid is never touched', async () => {
  const bystander = await VmmProcess.spawn(SLEEP, { program, logPath });
  try {
    const { identity } = bystander;
    const wrongs = [
      { ...identity, pidStartTicks: identity.pidStartTicks - 1 },
      { ...identity, hostBootId: '00000000-0000-0000-0000-000000000000' },
    ];
    for (const wrong of wrongs)
      assert.equal(VmmProcess.adopt(wrong, { title: 'QEMU', logPaths: [logPath] }), undefined);

    // The pid changes hands while we watch: our process ended, its number lives on.
    const moving = { ...identity };
    const adopted = VmmProcess.adopt(moving, { title: 'QEMU', logPaths: [logPath] });
    moving.pidStartTicks -= 1;
    await adopted?.kill();
    assert.deepEqual(await adopted?.exited, { exitCode: null, signal: null });
    assert.equal(isSameProcess(identity), true);
  } finally {
    await bystander.kill();
  }
});

test('a program that is missing or cannot be executed', async () => {
  const missing = VmmProcess.spawn(['/nonexistent/qemu'], { program, logPath });
  await assert.rejects(missing, { code: 'dependency_missing' });
  const notExecutable = join(dir, 'plain');
  await writeFile(notExecutable, 'text', { mode: 0o600 });
  await assert.rejects(VmmProcess.spawn([notExecutable], { program, logPath }), { code: 'vmm_failed' });
});

test('its last words are its own, not those of an earlier run in the same log', async () => {
  await writeFile(logPath, 'words of an earlier run\n');
  const vmm = await VmmProcess.spawn(['sh', '-c', 'sleep 0.1; echo my last words >&2; exit 1'], {
    program,
    logPath,
  });
  await vmm.exited;
  const error = await vmm.deathError();
  assert.equal(error.code, 'vmm_failed');
  assert.equal(error.message, 'QEMU ended (exit status 1): my last words');
  const silent = await VmmProcess.spawn(['sh', '-c', 'sleep 0.1; kill -ABRT $$'], { program, logPath });
  await silent.exited;
  assert.equal((await silent.deathError()).message, 'QEMU ended (SIGABRT) without a word');
});

test('a log that cannot be written is an error before anything is started', async () => {
  const impossible = VmmProcess.spawn(SLEEP, { program, logPath: join(dir, 'no', 'such', 'dir') });
  await assert.rejects(impossible, BangerError);
  const children = await readFile(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8');
  assert.equal(children.trim(), '');
  assert.notEqual(processIdentity(process.pid), undefined);
});
