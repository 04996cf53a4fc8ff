import assert from 'node:assert/strict';
import {
  appendFileSync,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { emptyImage, temporaryDir, unpack } from '../../test/helpers/host-repo.ts';
import { shipFiles } from './ship-files.ts';
import type { ReadInto, StoredData } from './squashfs/data-area.ts';
import { SquashfsWriter } from './squashfs/image-writer.ts';

/** Changes something just after a file was read, so many times. */
class MeddledWriter extends SquashfsWriter {
  meddle: () => void = () => {};
  times = 0;

  override store(size: number, read: ReadInto): StoredData | undefined {
    const stored = super.store(size, read);
    if (this.times > 0) {
      this.times -= 1;
      this.meddle();
    }
    return stored;
  }
}

async function shipMeddled(
  t: TestContext,
  source: string,
  times: number,
  meddle: () => void,
): Promise<string> {
  const dir = await temporaryDir(t);
  const imagePath = await emptyImage(dir);
  const fd = openSync(imagePath, 'r+');
  try {
    const { writer } = shipFiles((root) => Object.assign(new MeddledWriter(fd, root), { times, meddle }), {
      rootPath: source,
      entries: [],
      untracked: readdirSync(source).sort(),
      indexSeconds: 0,
      objectFormat: 'sha1',
      onFile: () => {},
    });
    writer.finish();
  } finally {
    closeSync(fd);
  }
  return unpack(imagePath, join(dir, 'out'));
}

/** Within a fragment, of one block, and larger than what is held back before it is written. */
for (const size of [1000, 128 * 1024, 11_000_000]) {
  test(`a file of ${size} bytes that changes while it is read is read again`, async (t) => {
    const source = await temporaryDir(t);
    const path = join(source, 'b');
    for (const name of ['a', 'b', 'c']) writeFileSync(join(source, name), Buffer.alloc(size, name));
    const grown = await shipMeddled(t, source, 2, () => appendFileSync(path, 'more'));
    const shrunk = await shipMeddled(t, source, 1, () => truncateSync(path, 10));
    for (const name of ['a', 'c']) {
      assert.deepEqual(readFileSync(join(grown, name)), Buffer.alloc(size, name));
      assert.deepEqual(readFileSync(join(shrunk, name)), Buffer.alloc(size, name));
    }
    assert.deepEqual(readFileSync(join(shrunk, 'b')), readFileSync(path));
  });
}

test('a file that never holds still is an error that names it', async (t) => {
  const source = await temporaryDir(t);
  writeFileSync(join(source, 'log'), 'x');
  await assert.rejects(
    shipMeddled(t, source, 100, () => appendFileSync(join(source, 'log'), 'more')),
    { code: 'io_error', message: /^log changed each time/ },
  );
});
