/** `vm cp` of the daemon with the real agent, in a process instead of a machine: its guest is a directory of this host. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { CheckedParamsOf } from '../../src/api/contract.ts';
import type { VmRecord } from '../../src/core/model/vm.ts';
import type { ByteStreams } from '../../src/daemon/byte-streams.ts';
import type { OperationHandle } from '../../src/daemon/operations.ts';
import type { LiveVm } from '../../src/daemon/services/vms/live-vm.ts';
import { Transfers } from '../../src/daemon/services/guests/transfers.ts';
import { VmCopy } from '../../src/daemon/services/guests/vm-copy.ts';
import type { VmSleep } from '../../src/daemon/services/vms/vm-sleep.ts';
import type { AgentClient } from '../../src/guest/agent-client.ts';
import { AgentHost } from '../helpers/agent-host.ts';
import { caseDirectories } from '../helpers/case-directories.ts';

const MIB = 1024 * 1024;

let host: AgentHost;
let agent: AgentClient;
let copies: VmCopy;
/** What is the guest's, and what is the host's. */
let guest: string;
let here: string;

before(async () => {
  host = await AgentHost.start();
  agent = await host.connect();
  const running = async () => ({
    vm: { name: 'dev' } as VmRecord,
    live: { agent: async () => agent } as unknown as LiveVm,
  });
  copies = new VmCopy({
    transfers: new Transfers(),
    sleep: { running } as unknown as VmSleep,
    streams: {} as ByteStreams,
  });
});

caseDirectories('vm-copy', async (dir) => {
  guest = join(dir, 'guest');
  here = join(dir, 'here');
  await mkdir(guest);
  await mkdir(here);
});

after(async () => {
  agent?.close();
  await host?.[Symbol.asyncDispose]();
});

function operation(
  signal = new AbortController().signal,
  onProgress = (): void => undefined,
): OperationHandle {
  return { signal, progress: onProgress, about: () => undefined };
}

type Ends = Partial<CheckedParamsOf<'vm.cp'>>;

async function copy(
  to: 'guest' | 'host',
  hostPath: string,
  guestPath: string,
  ends: Ends = {},
  handle = operation(),
) {
  return await copies.copy({ ref: 'dev', to, hostPath, guestPath, follow: false, ...ends }, handle);
}

/** Everything below a directory: kind, mode, modification time, content. */
async function treeOf(dir: string | Buffer, prefix = ''): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(dir, { encoding: 'buffer' })) {
    const path = Buffer.concat([Buffer.from(dir), Buffer.from('/'), entry]);
    const name = `${prefix}${entry.toString('latin1')}`;
    const status = await lstat(path);
    const facts = `${(status.mode & 0o7777).toString(8)} ${Math.round(status.mtimeMs)}`;
    if (status.isSymbolicLink()) found[name] = `${facts} to ${await readlink(path)}`;
    else if (status.isFile())
      found[name] = `${facts} ${createHash('sha256')
        .update(await readFile(path))
        .digest('hex')}`;
    else Object.assign(found, { [name]: facts }, await treeOf(path, `${name}/`));
  }
  return found;
}

async function makeTree(dir: string): Promise<void> {
  await mkdir(join(dir, 'sub/empty'), { recursive: true });
  await writeFile(join(dir, 'run.sh'), '#!/bin/sh\n', { mode: 0o755 });
  await writeFile(join(dir, 'sub/new\nline \u{1f600}'), randomBytes(300_000), { mode: 0o600 });
  await writeFile(Buffer.concat([Buffer.from(`${dir}/bytes-`), Buffer.from([0xff, 0xfe])]), 'not UTF-8');
  await writeFile(join(dir, 'nothing'), '');
  await symlink('/etc/passwd', join(dir, 'link'));
  await symlink('nowhere', join(dir, 'sub/dangling'));
  await utimes(join(dir, 'run.sh'), 1, 1_400_000_000.25);
  await utimes(join(dir, 'sub'), 1, 1_300_000_000);
}

test('a tree goes there and comes back as it was', async () => {
  await makeTree(join(here, 'tree'));
  const there = await copy('guest', join(here, 'tree'), guest);
  assert.deepEqual([there.files, there.directories, there.links], [4, 3, 2]);
  assert.deepEqual(await treeOf(join(guest, 'tree')), await treeOf(join(here, 'tree')));
  const back = await copy('host', join(here, 'back'), join(guest, 'tree'));
  assert.deepEqual(back, { ...there, vm: 'dev' });
  assert.deepEqual(await treeOf(join(here, 'back')), await treeOf(join(here, 'tree')));
});

test('each end means what cp would have it mean', async () => {
  for (const side of ['guest', 'host'] as const) {
    const [from, to] = side === 'guest' ? [here, guest] : [guest, here];
    const go = (source: string, target: string, ends: Ends = {}) =>
      side === 'guest' ? copy(side, source, target, ends) : copy(side, target, source, ends);
    await makeTree(join(from, 'tree'));
    await writeFile(join(from, 'file'), side);
    await symlink('file', join(from, 'to-file'));
    await symlink('tree', join(from, 'to-tree'));
    await mkdir(join(to, 'dir'));
    await go(join(from, 'file'), join(to, 'dir'));
    await go(join(from, 'file'), join(to, 'as'));
    await go(`${from}/tree/.`, join(to, 'dir'));
    await go(`${from}/tree/.`, join(to, 'contents'));
    await go(join(from, 'to-file'), join(to, 'dir'));
    await go(join(from, 'to-file'), join(to, 'followed'), { follow: true });
    await go(`${from}/to-tree/`, join(to, 'tree-by-link'));
    const names = await readdir(join(to, 'dir'));
    for (const name of ['file', 'run.sh', 'sub', 'to-file']) assert(names.includes(name), `${side}: ${name}`);
    assert((await lstat(join(to, 'dir/to-file'))).isSymbolicLink());
    assert.equal(await readFile(join(to, 'followed'), 'utf8'), side);
    assert.deepEqual(await treeOf(join(to, 'contents')), await treeOf(join(from, 'tree')));
    assert((await readdir(join(to, 'tree-by-link'))).includes('run.sh'));
    const refusals: [string, string, string][] = [
      [join(from, 'missing'), to, 'not_found'],
      [join(from, 'file'), join(to, 'no/where'), 'not_found'],
      [join(from, 'file'), `${to}/slash/`, 'not_found'],
      [join(from, 'tree'), join(to, 'as'), 'already_exists'],
      [`${from}/file/`, to, 'bad_request'],
      [`${from}/tree/.`, join(to, 'no/where'), 'not_found'],
    ];
    for (const [source, target, code] of refusals)
      await assert.rejects(go(source, target), { code }, `${side} ${source} ${target}`);
    await rm(here, { recursive: true });
    await rm(guest, { recursive: true });
    await mkdir(here);
    await mkdir(guest);
  }
});

test('sparse files stay sparse, and special files are named', async () => {
  await mkdir(join(here, 'tree'));
  await writeFile(join(here, 'tree/sparse'), 'head');
  await truncate(join(here, 'tree/sparse'), 32 * MIB);
  await promisify(execFile)('mkfifo', [join(here, 'tree/fifo')]);
  const there = await copy('guest', join(here, 'tree'), guest);
  assert.deepEqual(there.skipped, [join(here, 'tree/fifo')]);
  await promisify(execFile)('mkfifo', [join(guest, 'tree/pipe')]);
  const back = await copy('host', join(here, 'back'), join(guest, 'tree'));
  assert.deepEqual([back.skipped, back.skippedCount], [[join(guest, 'tree/pipe')], 1]);
  // One slash between the names, however the directory was written.
  for (const end of ['/', '/.', '/.//']) {
    const contents = await copy('guest', `${here}/tree${end}`, guest);
    assert.deepEqual(contents.skipped, [join(here, 'tree/fifo')]);
    const out = await copy('host', join(here, 'out'), `${guest}/tree${end}`);
    assert.deepEqual(out.skipped, [join(guest, 'tree/pipe')]);
    await rm(join(here, 'out'), { recursive: true });
  }
  for (const path of [join(guest, 'tree/sparse'), join(here, 'back/sparse')]) {
    const status = await stat(path);
    assert.equal(status.size, 32 * MIB);
    assert(status.blocks * 512 < MIB, path);
  }
  assert(back.bytes < MIB);
});

test('cancelled in the middle, either way: no part of the file, and what had its name', async () => {
  for (const side of ['guest', 'host'] as const) {
    const [from, to] = side === 'guest' ? [here, guest] : [guest, here];
    await writeFile(join(from, 'big'), randomBytes(24 * MIB));
    await writeFile(join(to, 'big'), 'old');
    const cancel = new AbortController();
    // The first report comes when the file has been begun.
    const handle = operation(cancel.signal, () => cancel.abort());
    const [hostPath, guestPath] = side === 'guest' ? [join(here, 'big'), guest] : [here, join(guest, 'big')];
    await assert.rejects(copy(side, hostPath, guestPath, {}, handle), { code: 'cancelled' });
    assert.equal(await readFile(join(to, 'big'), 'utf8'), 'old');
    assert.deepEqual(await readdir(to), ['big']);
    await rm(join(from, 'big'));
    await rm(join(to, 'big'));
  }
});

test('a full disk of either end is told, and holds no part of the file', async (t) => {
  for (const side of ['guest', 'host'] as const) {
    const [from, to] = side === 'guest' ? [here, guest] : [guest, here];
    await writeFile(join(from, 'big'), randomBytes(2 * MIB));
    const mounted = await promisify(execFile)('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', to]).catch(
      () => undefined,
    );
    if (mounted === undefined) return t.skip('only root can mount a small file system');
    try {
      const [hostPath, guestPath] =
        side === 'guest' ? [join(here, 'big'), guest] : [here, join(guest, 'big')];
      const hint = side === 'guest' ? /: banger vm exec dev -- df -h$/ : /^df -h/;
      await assert.rejects(copy(side, hostPath, guestPath), { code: 'no_space', hint });
      assert.deepEqual(await readdir(to), []);
    } finally {
      await promisify(execFile)('umount', [to]);
    }
    await rm(join(from, 'big'));
  }
});

test('a FIFO or a device is not replaced by a file', async () => {
  for (const [side, to] of [
    ['guest', guest],
    ['host', here],
  ] as const) {
    const from = side === 'guest' ? here : guest;
    await writeFile(join(from, 'plain'), 'x');
    await promisify(execFile)('mkfifo', [join(to, 'fifo')]);
    const [hostPath, guestPath] = [
      join(here, side === 'guest' ? 'plain' : 'fifo'),
      join(guest, side === 'guest' ? 'fifo' : 'plain'),
    ];
    await assert.rejects(copy(side, hostPath, guestPath), /fifo/);
    assert.ok((await lstat(join(to, 'fifo'))).isFIFO());
    assert.deepEqual(await readdir(to), side === 'guest' ? ['fifo'] : ['fifo', 'plain']);
    await rm(join(to, 'fifo'));
  }
});
