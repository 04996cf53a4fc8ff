import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BangerError } from '../errors.ts';
import { findBlock, withBlock, withoutBlock } from './include-block.ts';

const PATH = '/home/dev/.local/state/banger/ssh/config';

function removed(text: string): string | null {
  const block = findBlock(text);
  assert.ok(block);
  return withoutBlock(text, block);
}

test('whatever is in the file: installing and removing gives it back byte for byte', () => {
  const line = fc.constantFrom(
    '',
    'Host *',
    '  ForwardAgent yes\r',
    'Include other',
    '# caf\xe9',
    '\xef\xbb\xbfHost x',
  );
  const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array).toString('latin1'));
  const lines = fc.array(line, { maxLength: 6 }).map((all) => all.join('\n'));
  fc.assert(
    fc.property(fc.oneof(bytes, lines), fc.constantFrom(PATH, '/home/jos\u00e9/ssh config'), (text, path) => {
      const installed = withBlock(text, path);
      assert.equal(findBlock(installed)?.path, path);
      assert.ok(installed.endsWith(text));
      assert.equal(removed(installed), text);
    }),
  );
});

test('a file that was made for it goes with it, unless somebody has written to it', () => {
  const made = withBlock(null, PATH);
  assert.equal(removed(made), null);
  assert.equal(removed(`${made}Host x\n`), 'Host x\n');
  assert.equal(removed(withBlock('', PATH)), '');
});

test('the block is found wherever it was moved, and with the ends of lines an editor gave it', () => {
  const [begin, include, end] = withBlock('', PATH).split('\n');
  const moved = `Host a\r\n${begin}\r\n${include}\r\n${end}\r\nHost b\r\n`;
  assert.equal(removed(moved), 'Host a\r\nHost b\r\n');
  assert.equal(removed(`Host a\n${begin}\n${include}\n${end}`), 'Host a\n');
});

test('a block that somebody changed is not removed', () => {
  const whole = withBlock('Host x\n', PATH);
  const [begin, include, end] = whole.split('\n');
  for (const changed of [
    [begin, include, 'Host y', end],
    [begin, include],
    [begin],
    [include, end],
    [begin, end],
    [begin, 'Include "a" "b"', end],
    [begin, include, end, begin, include, end],
  ]) {
    const text = `${changed.join('\n')}\n`;
    assert.throws(
      () => findBlock(text),
      (error) => error instanceof BangerError && error.code === 'bad_request',
      text,
    );
  }
});

test('a path that Include would take for something else is refused', () => {
  for (const path of ['/a/*', '/a/[b]', '/a"b', '/a\nb', '/a\\b', '/$HOME/x', "/it's"]) {
    assert.throws(() => withBlock('', path), BangerError, path);
  }
});
