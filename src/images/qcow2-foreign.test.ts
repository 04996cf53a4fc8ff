import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from '../core/errors.ts';
import { createRunner } from '../host/runner.ts';
import { createOverlay } from './disk.ts';
import { adoptOverlay } from './qcow2-adopt.ts';
import { OVERLAY_HEADER_BYTES, readForeignOverlay } from './qcow2-foreign.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const SIZE = 2 * GIB;
const NEVER = new AbortController().signal;
const runner = createRunner();
const dir = mkdtempSync(join(tmpdir(), 'foreign-'));
const at = (name: string): string => join(dir, name);
const img = (...args: readonly string[]): string => execFileSync('qemu-img', args, { encoding: 'utf8' });
const io = (path: string, ...commands: readonly string[]): string =>
  execFileSync('qemu-io', ['-f', 'qcow2', ...commands.flatMap((one) => ['-c', one]), path], {
    encoding: 'utf8',
  });

before(() => {
  for (const name of ['theirs.raw', 'ours.raw', 'secret.raw']) {
    writeFileSync(at(name), name);
    truncateSync(at(name), GIB);
  }
});
after(() => rmSync(dir, { recursive: true }));

/** One that QEMU has written to, on their base. */
async function theirs(name: string): Promise<string> {
  const overlayPath = at(name);
  await createOverlay({ basePath: at('theirs.raw'), baseFormat: 'raw', overlayPath, sizeBytes: SIZE });
  io(overlayPath, 'write -P 7 100M 3M', 'write -P 8 1900M 64k');
  return overlayPath;
}

const adopt = async (path: string, sizeBytes = SIZE): Promise<void> =>
  adoptOverlay({ path, backingName: at('ours.raw'), backingFormat: 'raw', sizeBytes }, runner, NEVER);

const refused = (what: RegExp) => (error: unknown) => {
  assert.ok(error instanceof BangerError);
  assert.equal(error.code, 'verify_failed');
  assert.match(error.message, what);
  return true;
};

test('a disk that QEMU has written to stands on our base afterwards, with what was written', async () => {
  const path = await theirs('good.qcow2');
  await adopt(path);
  const info = JSON.parse(img('info', '--output=json', path)) as Record<string, unknown>;
  assert.deepEqual(
    [info['backing-filename'], info['backing-filename-format'], info['virtual-size']],
    [at('ours.raw'), 'raw', SIZE],
  );
  for (const [pattern, where] of [
    [7, '100M 3M'],
    [8, '1900M 64k'],
    ['0x6f', '0 1'],
  ]) {
    // The bases begin with their names.
    assert.doesNotMatch(io(path, `read -P ${pattern} ${where}`), /verification failed/);
  }
  assert.match(img('check', '-f', 'qcow2', path), /No errors/);
});

test('one that QEMU has grown, or given its own header, is taken', async () => {
  const grown = await theirs('grown.qcow2');
  img('resize', '-f', 'qcow2', grown, '3G');
  await adopt(grown, 3 * GIB);
  const own = at('own.qcow2');
  img('create', '-q', '-f', 'qcow2', '-b', at('theirs.raw'), '-F', 'raw', own, String(SIZE));
  await adopt(own);
  assert.equal(
    (JSON.parse(img('info', '--output=json', own)) as Record<string, unknown>)['backing-filename'],
    at('ours.raw'),
  );
});

test('a base that is a secret of this host is never opened, and its name is gone', async () => {
  const path = at('evil.qcow2');
  img('create', '-q', '-f', 'qcow2', '-b', at('secret.raw'), '-F', 'raw', path, String(SIZE));
  await adopt(path);
  assert.ok(!readFileSync(path).includes('secret'));
  assert.doesNotMatch(io(path, 'read -P 0x6f 0 1'), /verification failed/);
});

test('what can name other files, or is not as ours, is refused', async () => {
  const made: readonly (readonly [name: string, what: RegExp, ...options: string[]])[] = [
    ['data', /incompatible features/, '-o', `data_file=${at('secret.raw')}`],
    ['raw-data', /incompatible features/, '-o', `data_file=${at('other.raw')},data_file_raw=on`],
    ['large', /size of its clusters/, '-o', 'cluster_size=128k'],
    ['old', /version of the format/, '-o', 'compat=0.10'],
    ['lazy', /compatible features/, '-o', 'lazy_refcounts=on'],
    ['zstd', /incompatible features/, '-o', 'compression_type=zstd'],
    ['wide', /incompatible features/, '-o', 'extended_l2=on'],
    ['narrow', /width of its refcounts/, '-o', 'refcount_bits=1'],
  ];
  for (const [name, what, ...options] of made) {
    img('create', '-q', '-f', 'qcow2', ...options, at(name), String(SIZE));
    await assert.rejects(adopt(at(name)), refused(what), name);
  }
  const luks = at('luks');
  img(
    ...['create', '-q', '--object', 'secret,id=s,data=x', '-f', 'qcow2'],
    '-o',
    'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10',
    luks,
    String(16 * MIB),
  );
  await assert.rejects(adopt(luks, 16 * MIB), refused(/encryption/));
  const kept = await theirs('kept');
  img('snapshot', '-c', 'one', kept);
  await assert.rejects(adopt(kept), refused(/snapshots of its own/));
  const marked = await theirs('bitmap');
  img('bitmap', '--add', marked, 'b');
  await assert.rejects(adopt(marked), refused(/features of its own|the extension/));
  writeFileSync(at('text'), Buffer.alloc(MIB, 'x'));
  await assert.rejects(adopt(at('text')), refused(/no qcow2 file/));
  writeFileSync(at('short'), readFileSync(kept).subarray(0, 1000));
  await assert.rejects(adopt(at('short')), refused(/too short/));
  await assert.rejects(adopt(await theirs('resized'), GIB), refused(/has 2147483648 bytes/));
});

test('a data file named by an extension alone is refused', async () => {
  const path = await theirs('extension');
  const bytes = readFileSync(path);
  // Our header is 104 bytes; its first extension is the base's format.
  bytes.writeUInt32BE(0x44415441, 104);
  writeFileSync(path, bytes);
  await assert.rejects(adopt(path), refused(/the extension 0x44415441/));
});

test('tables outside of the file or over the header are refused; broken ones are found by qemu-img', async () => {
  const good = readFileSync(await theirs('tables'));
  const changes: readonly (readonly [what: RegExp, (bytes: Buffer) => void])[] = [
    [/its tables/, (bytes) => bytes.writeBigUInt64BE(2n ** 40n, 40)],
    [/its tables/, (bytes) => bytes.writeBigUInt64BE(0n, 40)],
    [/its tables/, (bytes) => bytes.writeBigUInt64BE(512n, 40)],
    [/its tables/, (bytes) => bytes.writeUInt32BE(1, 36)],
    [/its tables/, (bytes) => bytes.writeUInt32BE(0xffffffff, 36)],
    [/its tables/, (bytes) => bytes.writeBigUInt64BE(2n ** 63n, 48)],
    [/its tables/, (bytes) => bytes.writeUInt32BE(0, 56)],
    [/its tables/, (bytes) => bytes.writeUInt32BE(0xffffffff, 56)],
    [/its size/, (bytes) => bytes.writeBigUInt64BE(2n ** 62n, 24)],
    [/length of its header/, (bytes) => bytes.writeUInt32BE(72, 100)],
    // Its first L2 table is where the header is.
    [/is damaged/, (bytes) => bytes.writeBigUInt64BE(2n ** 63n, Number(bytes.readBigUInt64BE(40)))],
  ];
  for (const [index, [what, change]] of changes.entries()) {
    const bytes = Buffer.from(good);
    change(bytes);
    writeFileSync(at(`changed-${index}`), bytes);
    await assert.rejects(adopt(at(`changed-${index}`)), refused(what), `change ${index}`);
  }
});

test('no header at all makes it do anything but refuse', async () => {
  const good = readFileSync(await theirs('random')).subarray(0, OVERLAY_HEADER_BYTES);
  fc.assert(
    fc.property(
      fc.array(fc.record({ at: fc.integer({ min: 0, max: 160 }), byte: fc.integer({ min: 0, max: 255 }) }), {
        minLength: 1,
      }),
      (changes) => {
        const bytes = Buffer.from(good);
        for (const { at: place, byte } of changes) bytes[place] = byte;
        try {
          const { tables } = readForeignOverlay(bytes, 10 * MIB);
          assert.ok(
            tables.l1Offset + tables.l1Entries * 8 <= 10 * MIB && tables.l1Offset >= OVERLAY_HEADER_BYTES,
          );
        } catch (error) {
          assert.ok(error instanceof BangerError && error.code === 'verify_failed', String(error));
        }
      },
    ),
  );
});
