/** Snapshots to files and from files, as the daemon does it, with files that are not what they say. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { BangerError } from '../../src/core/errors.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import { vmPolicy } from '../../src/core/policy/vm-policy.ts';
import { frozenPaths } from '../../src/frozen/manifest.ts';
import {
  SnapshotRestore,
  type SnapshotRestoreDeps,
} from '../../src/daemon/services/snapshots/snapshot-restore.ts';
import { type ManifestChange, SnapshotHome } from './snapshot-home.ts';

let root: string;
let home: SnapshotHome;
let file: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'snapshot-files-'));
  home = homeAt('here');
  file = join(root, 'out.snap');
});
afterEach(() => rmSync(root, { recursive: true }));

function homeAt(name: string, options: ConstructorParameters<typeof SnapshotHome>[1] = {}): SnapshotHome {
  const dir = join(root, name);
  mkdirSync(dir);
  return new SnapshotHome(dir, options);
}

const failing = (code: ErrorCode, words: RegExp) => (error: unknown) => {
  assert.ok(error instanceof BangerError, String((error as Error).stack));
  assert.equal(error.code, code, error.message);
  assert.match(`${error.message}\n${error.hint ?? ''}`, words);
  return true;
};

test('there and back: a new id, nobody VM, its own base, no network unless asked for', async () => {
  const id = await home.add('dev-1', true);
  const exported = await home.export('dev-1', file);
  assert.deepEqual([exported.path, exported.snapshot.id], [file, id]);
  const there = homeAt('there');
  const view = await there.import(file, { trust: true });
  assert.notEqual(view.id, id);
  const [snapshot] = (await there.store.list()).whole;
  assert.ok(snapshot !== undefined);
  const { manifest } = snapshot;
  assert.notEqual(manifest.vm.id, exported.snapshot.vm.id);
  assert.deepEqual(
    [manifest.imported, manifest.vm.spec.nat, manifest.vm.spec.ephemeral],
    [true, false, false],
  );
  const info = execFileSync('qemu-img', ['info', '--output=json', frozenPaths(snapshot.dir).rootDisk], {
    encoding: 'utf8',
  });
  assert.equal((JSON.parse(info) as Record<string, unknown>)['backing-filename'], there.rootfs);
  assert.ok(!readFileSync(frozenPaths(snapshot.dir).rootDisk).includes(home.rootfs));
  await assert.rejects(
    restoreOf(there).restore({ snapshot: 'dev-1', force: true, diskOnly: false }, there.operation()),
    failing('unsupported', /was imported.*\nbanger vm fork --snapshot dev-1/),
  );
  await there.import(file, { trust: true, nat: true, name: 'open' });
  assert.equal((await there.shelf.get('open')).manifest.vm.spec.nat, true);
  const last = there.progress.findLast(({ unit }) => unit === 'bytes');
  assert.deepEqual([last?.done, last?.total], [exported.dataBytes, exported.dataBytes]);
});

test('the export of what was imported is refused nowhere', async () => {
  await home.add('dev-1', true);
  await home.export('dev-1', file);
  const there = homeAt('there');
  await there.import(file, { trust: true });
  await there.export('dev-1', join(root, 'again.snap'));
  await homeAt('third').import(join(root, 'again.snap'), { trust: true });
});

test('what may not be here is refused before anything is written', async () => {
  await home.add('memory', true);
  await home.export('memory', file);
  const small = vmPolicy({ vmDefaults: {}, accel: 'auto' }, { cpus: 1, memoryMib: 128 });
  const refusals: readonly (readonly [SnapshotHome, object, ErrorCode, RegExp])[] = [
    [homeAt('untrusted'), {}, 'permission', /--trust/],
    [
      homeAt('none', { imageDigest: null }),
      { trust: true },
      'unsupported',
      /"debian-bookworm" of digest dddddddddddd; there is none.*\nbanger image build debian-bookworm/,
    ],
    [
      homeAt('other', { imageDigest: 'e'.repeat(64) }),
      { trust: true },
      'unsupported',
      /of digest dddddddddddd; the one here has eeeeeeeeeeee/,
    ],
    [homeAt('named'), { trust: true, name: 'Not A Name' }, 'bad_request', /cannot be the name/],
  ];
  for (const [there, params, code, words] of refusals) {
    await assert.rejects(there.import(file, params), failing(code, words));
    assert.deepEqual(there.dirs(), []);
  }
  const specs: readonly (readonly [ManifestChange, RegExp])[] = [
    [
      (one) => ({ ...one, vcpus: 64, vm: { ...one.vm, spec: { ...one.vm.spec, vcpus: 64 } } }),
      /64 vCPUs are more than the limit of 4/,
    ],
    [
      (one) => ({ ...one, memoryMib: 4096, vm: { ...one.vm, spec: { ...one.vm.spec, memoryMib: 4096 } } }),
      /4096 MiB of memory are more/,
    ],
    [
      (one) => ({
        ...one,
        rootDiskBytes: 2 ** 40,
        vm: { ...one.vm, spec: { ...one.vm.spec, diskSizeBytes: 2 ** 40 } },
      }),
      /is more than the limit/,
    ],
  ];
  for (const [index, [change, words]] of specs.entries()) {
    const there = homeAt(`spec-${index}`, { policy: small });
    await home.add(`large-${index}`, false, change);
    await home.export(`large-${index}`, `${file}-${index}`);
    await assert.rejects(there.import(`${file}-${index}`), failing('bad_request', words));
    assert.deepEqual(there.dirs(), []);
  }
});

test('sizes beyond what a part can have are refused; what the disk has no room for is no_space', async () => {
  const large = await home.add(
    'large',
    false,
    (same) => same,
    (dir) => truncateSync(frozenPaths(dir).transferDisk, 65 * 1024 ** 3),
  );
  await home.export(large, file);
  const there = homeAt('there');
  await assert.rejects(there.import(file), failing('verify_failed', /transfer.img has 69793218560 bytes/));
  await home.add('one');
  await home.export('one', file, true);
  // Its header alone says how much is to come.
  const bytes = readFileSync(file);
  const header = JSON.parse(bytes.subarray(48, 48 + bytes.readUInt32LE(12)).toString()) as {
    manifest: {
      vm: { spec: { diskSizeBytes: number } };
      rootDiskBytes: number;
      rootDisk: { sizeBytes: number };
    };
    files: { sizeBytes: number; dataBytes: number }[];
  };
  const [disk] = header.files;
  assert.ok(disk !== undefined);
  const huge = 2 ** 49;
  Object.assign(disk, { sizeBytes: huge, dataBytes: huge });
  header.manifest.rootDisk.sizeBytes = huge;
  header.manifest.rootDiskBytes = huge;
  header.manifest.vm.spec.diskSizeBytes = huge;
  const { createHash } = await import('node:crypto');
  const json = Buffer.from(JSON.stringify(header));
  const preamble = Buffer.from(bytes.subarray(0, 48));
  preamble.writeUInt32LE(json.length, 12);
  createHash('sha256').update(json).digest().copy(preamble, 16);
  writeFileSync(file, Buffer.concat([preamble, json]));
  const policy = vmPolicy({ vmDefaults: {}, accel: 'auto' }, { cpus: 2, memoryMib: 4096 });
  const roomy = homeAt('roomy', {
    policy: { ...policy, limits: { ...policy.limits, maxDiskSizeBytes: 2 ** 50 } },
  });
  await assert.rejects(roomy.import(file), failing('no_space', /no space left/));
  assert.deepEqual([there.dirs(), roomy.dirs()], [[], []]);
});

test('a disk that is not ours, and a state that is another one, are found; nothing is left', async () => {
  const there = homeAt('there');
  const secret = join(root, 'secret');
  writeFileSync(secret, 'secret'.repeat(1000));
  const evil: readonly (readonly [
    options: readonly string[],
    change: (disk: Buffer) => void,
    words: RegExp,
  ])[] = [
    [['-o', `data_file=${secret}-data`], () => undefined, /incompatible features/],
    // crypt_method, LUKS: making one for real measures the CPU, which a busy host can fail.
    [[], (disk) => disk.writeUInt32BE(2, 32), /encryption/],
  ];
  for (const [index, [options, change, words]] of evil.entries()) {
    await home.add(
      `evil-${index}`,
      false,
      (same) => same,
      (dir) => {
        execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...options, `${file}.qcow2`, '1G']);
        const disk = readFileSync(`${file}.qcow2`);
        change(disk);
        writeFileSync(frozenPaths(dir).rootDisk, disk);
        rmSync(`${file}.qcow2`);
      },
    );
    await home.export(`evil-${index}`, `${file}-${index}`);
    await assert.rejects(there.import(`${file}-${index}`), failing('verify_failed', words));
  }
  await home.add('state', true, (one) => ({ ...one, state: { sizeBytes: 12, sha256: 'a'.repeat(64) } }));
  await home.export('state', file);
  await assert.rejects(
    there.import(file, { trust: true }),
    failing('verify_failed', /its state is not what was written/),
  );
  assert.deepEqual(there.dirs(), []);

  // A base of this host: its name does not survive, and nothing of it is read.
  await home.add(
    'passwd',
    false,
    (same) => same,
    (dir) => {
      const path = frozenPaths(dir).rootDisk;
      rmSync(path);
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', '/etc/passwd', '-F', 'raw', path, '1G']);
    },
  );
  await home.export('passwd', file, true);
  await there.import(file);
  const { dir } = await there.shelf.get('passwd');
  assert.ok(!readFileSync(frozenPaths(dir).rootDisk).includes('passwd'));
});

test('a damaged snapshot is not exported; a file that is there is not touched', async () => {
  const id = await home.add('dev-1');
  writeFileSync(file, 'mine');
  await assert.rejects(home.export('dev-1', file), failing('already_exists', /--force/));
  assert.equal(readFileSync(file, 'utf8'), 'mine');
  symlinkSync(file, `${file}-link`);
  await assert.rejects(
    home.export('dev-1', `${file}-link`, true),
    failing('already_exists', /not a regular file/),
  );
  await assert.rejects(home.export('dev-1', root, true), failing('already_exists', /not a regular file/));
  await assert.rejects(home.export('dev-1', join(root, 'no', 'dir')), failing('io_error', /cannot write/));
  const { dir } = await home.shelf.get(id);
  truncateSync(frozenPaths(dir).rootDisk, 100_000);
  await assert.rejects(
    home.export('dev-1', file, true),
    failing('verify_failed', /root.qcow2 is not what was written/),
  );
  rmSync(frozenPaths(dir).rootDisk);
  await assert.rejects(home.export('dev-1', file, true), failing('io_error', /cannot read root.qcow2/));
  assert.equal(readFileSync(file, 'utf8'), 'mine');
  assert.deepEqual(readdirSync(root).toSorted(), ['here', 'out.snap', 'out.snap-link']);
});

test('cancelled on the way: nothing is left', async () => {
  await home.add('dev-1', true);
  await home.export('dev-1', file);
  for (const kind of ['export', 'import'] as const) {
    const there = kind === 'export' ? home : homeAt('there');
    const before = there.dirs();
    const abort = new AbortController();
    const operation = {
      ...there.operation(abort.signal),
      progress: ({ done }: { readonly done?: number }) => {
        if (done !== undefined && done > 0) abort.abort();
      },
    };
    const work =
      kind === 'export'
        ? there.files.exports.export({ snapshot: 'dev-1', output: `${file}-2`, force: false }, operation)
        : there.files.imports.import({ input: file, trust: true, nat: false }, operation);
    await assert.rejects(work);
    assert.deepEqual(there.dirs(), before);
  }
  assert.deepEqual(readdirSync(root).toSorted(), ['here', 'out.snap', 'there']);
});

test('of two imports with one name at once one wins', async () => {
  await home.add('dev-1');
  await home.export('dev-1', file);
  const there = homeAt('there');
  const results = await Promise.allSettled([there.import(file), there.import(file), there.import(file)]);
  const lost = results.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  assert.equal(lost.length, 2);
  for (const error of lost) failing('already_exists', /there is a snapshot "dev-1"/)(error);
  assert.equal(there.dirs().length, 1);
});

test('what is no file is said to be none', async () => {
  await assert.rejects(home.import(join(root, 'none')), failing('io_error', /no such file or directory/));
  await assert.rejects(
    home.import(root),
    failing('bad_request', /is not a regular file\nbanger vm snapshot import -/),
  );
  execFileSync('mkfifo', [`${file}-fifo`]);
  await assert.rejects(home.import(`${file}-fifo`), failing('bad_request', /is not a regular file/));
});

/** What it refuses by the snapshot alone needs nothing else. */
function restoreOf({ shelf }: SnapshotHome): SnapshotRestore {
  return new SnapshotRestore({ shelf } as SnapshotRestoreDeps);
}
