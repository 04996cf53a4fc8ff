import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { BangerError } from '../../../core/errors.ts';
import type { ArchiveRecord } from '../../../guest/archive/records.ts';
import type { FileSyncEntry } from '../../../host/file-sync-config.ts';
import type { Log } from '../../../host/log.ts';
import { FileSync } from './file-sync.ts';

const HOME = mkdtempSync(join(tmpdir(), 'file-sync-'));
const LOG = { warn: () => undefined } as unknown as Log;

after(() => rmSync(HOME, { recursive: true, force: true }));

/** What the guest is sent, and what the user is told. */
async function synced(entries: readonly FileSyncEntry[], failure?: BangerError, failing?: string) {
  const records: string[] = [];
  const told: string[] = [];
  let calls = 0;
  const agent = {
    async unpack(
      request: { readonly base: unknown },
      sent: AsyncIterable<ArchiveRecord> | Iterable<ArchiveRecord>,
    ) {
      calls += 1;
      assert.equal(request.base, '/root');
      if (failure !== undefined && failing === undefined) throw failure;
      for await (const record of sent) {
        if ('path' in record && record.path.toString() === failing) throw failure;
        if ('path' in record)
          records.push(
            `${record.kind} ${record.path.toString()}${'mode' in record ? ` ${record.mode.toString(8)}` : ''}`,
          );
      }
    },
  };
  await new FileSync({ entries, env: { HOME }, log: LOG }).write(agent, {
    signal: new AbortController().signal,
    progress: ({ text, announce }) => announce === true && told.push(text),
    about: () => undefined,
  });
  return { records: records.toSorted(), told, calls };
}

test('files get the mode of their entry, directories what they have, links in them are left out', async () => {
  mkdirSync(join(HOME, 'dir/sub'), { recursive: true });
  writeFileSync(join(HOME, 'dir/sub/run'), 'x', { mode: 0o755 });
  chmodSync(join(HOME, 'dir/sub'), 0o750);
  chmodSync(join(HOME, 'dir'), 0o700);
  symlinkSync('/etc/passwd', join(HOME, 'dir/link'));
  writeFileSync(join(HOME, 'dotfile'), 'x');
  symlinkSync('dotfile', join(HOME, '.linked'));
  const { records, told } = await synced([
    { host: 'dir', guest: 'd/e', mode: 0o600 },
    { host: '.linked', guest: '.file', mode: 0o640 },
  ]);
  assert.deepEqual(records, [
    'directory d/e 700',
    'directory d/e/sub 750',
    'file .file 640',
    'file d/e/sub/run 755',
  ]);
  assert.deepEqual(told, ['file_sync: ~/dir: the symbolic link d/e/link is left out']);
});

test('what cannot be copied is told, and the rest is', async () => {
  symlinkSync('/etc', join(HOME, 'out'));
  const { records, told } = await synced([
    { host: 'missing', guest: 'm', mode: 0o600 },
    { host: 'out/passwd', guest: 'p', mode: 0o600 },
    { host: 'dotfile', guest: 'f', mode: 0o600 },
  ]);
  assert.deepEqual(records, ['file f 600']);
  assert.deepEqual(told, [
    'file_sync: ~/missing does not exist',
    'file_sync: ~/out/passwd leads out of your home: it is left out',
  ]);
});

test('nothing is asked of the guest without entries; a guest that cannot write is told, one that is gone ends the start', async () => {
  assert.deepEqual(await synced([]), { records: [], told: [], calls: 0 });
  const entry = { host: 'dotfile', guest: 'f', mode: 0o600 };
  const full = await synced([entry], new BangerError('no_space', 'no space left'));
  assert.deepEqual(full.told, ['file_sync: ~/dotfile is left out: no space left']);
  await assert.rejects(synced([entry], new BangerError('channel_broken', 'gone')), {
    code: 'channel_broken',
  });
});

test('what cannot be written there keeps nothing else from being written', async () => {
  writeFileSync(join(HOME, 'other'), 'x');
  const entries = ['dotfile', 'other'].map((host) => ({ host, guest: host, mode: 0o600 }));
  const failure = new BangerError('guest_failed', 'dotfile: Is a directory');
  const { records, told } = await synced(entries, failure, 'dotfile');
  assert.deepEqual(records, ['file other 600']);
  assert.deepEqual(told, ['file_sync: ~/dotfile is left out: dotfile: Is a directory']);
});
