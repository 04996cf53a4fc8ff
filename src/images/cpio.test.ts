import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createRunner } from '../host/runner.ts';
import { type CpioEntry, writeCpio } from './cpio.ts';

/** An independent reader of the format, from the kernel's description of it. */
function readCpio(bytes: Uint8Array): { path: string; mode: number; data: Buffer; rdev: [number, number] }[] {
  const buffer = Buffer.from(bytes);
  const found = [];
  let at = 0;
  for (;;) {
    assert.equal(buffer.toString('latin1', at, at + 6), '070701');
    const field = (index: number) =>
      Number.parseInt(buffer.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16);
    const [mode, size, major, minor, nameSize] = [
      field(1),
      field(6),
      field(9),
      field(10),
      field(11),
    ] as const;
    const path = buffer.toString('utf8', at + 110, at + 110 + nameSize - 1);
    const dataAt = Math.ceil((at + 110 + nameSize) / 4) * 4;
    at = Math.ceil((dataAt + size) / 4) * 4;
    if (path === 'TRAILER!!!') return found;
    found.push({
      path,
      mode,
      data: buffer.subarray(dataAt, dataAt + size),
      rdev: [major, minor] as [number, number],
    });
  }
}

test('what is written can be read again, byte for byte', () => {
  const name = fc.stringMatching(/^[a-zA-Z0-9._-]{1,40}$/);
  const entry: fc.Arbitrary<CpioEntry> = fc.oneof(
    fc.record({ type: fc.constant('directory' as const), path: name, mode: fc.nat(0o7777) }),
    fc.record({
      type: fc.constant('file' as const),
      path: name,
      mode: fc.nat(0o7777),
      data: fc.uint8Array({ maxLength: 300 }),
    }),
  );
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 20 }), (entries) => {
      const bytes = writeCpio(entries);
      assert.equal(bytes.length % 4, 0);
      const read = readCpio(bytes);
      assert.equal(read.length, entries.length);
      entries.forEach((wanted, index) => {
        assert.equal(read[index]?.path, wanted.path);
        assert.equal((read[index]?.mode ?? 0) & 0o7777, wanted.mode);
        if (wanted.type === 'file') assert.deepEqual(read[index]?.data, Buffer.from(wanted.data));
      });
    }),
  );
});

test('the cpio program lists directories, files and devices as they were given', async () => {
  const bytes = writeCpio([
    { type: 'directory', path: 'dev', mode: 0o755 },
    { type: 'character-device', path: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    { type: 'file', path: 'init', mode: 0o755, data: Buffer.from('hello') },
  ]);
  const { stdout } = await createRunner().run(['cpio', '-itv', '--quiet'], {
    input: bytes,
    env: { LC_ALL: 'C', TZ: 'UTC' },
  });
  const lines = stdout
    .toString('utf8')
    .trim()
    .split('\n')
    .map((line) => line.replace(/ +/g, ' '));
  assert.deepEqual(lines, [
    'drwxr-xr-x 2 root root 0 Jan 1 1970 dev',
    'crw------- 1 root root 5, 1 Jan 1 1970 dev/console',
    '-rwxr-xr-x 1 root root 5 Jan 1 1970 init',
  ]);
});

test('paths that are not relative are refused', () => {
  for (const path of ['/init', '', 'a\0b']) {
    assert.throws(() => writeCpio([{ type: 'directory', path, mode: 0o755 }]));
  }
});
