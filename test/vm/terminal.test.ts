/** Programs in a guest on a terminal. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Terminal } from '../helpers/terminal.ts';
import { settled, TestHome } from '../helpers/test-home.ts';

const COOKED = { canonical: true, echo: true };

describe('on a terminal', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    await home.ok(['vm', 'run', '-d', '--name', 'dev']);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('a login shell: its size, also after a resize, Ctrl-C, and its status', async () => {
    await using terminal = new Terminal(home, ['vm', 'exec', 'dev']);
    await terminal.shows('# ');
    terminal.write('stty size\r');
    await terminal.shows('24 80\n');
    terminal.resize(50, 132);
    // The size travels beside the keys: the shell is asked until it has come.
    await settled(async () => {
      const from = terminal.shown().length;
      terminal.write('stty size\r');
      await terminal.shows('stty size\n', from);
      return terminal.shown().slice(from).includes('50 132');
    });
    await terminal.shows('50 132\n');
    terminal.write('echo "<$TERM>"; tty\r');
    await terminal.shows('<xterm>\n/dev/pts/');
    terminal.write('sleep 1000; echo after=$?\r');
    await terminal.shows('after=$?\n');
    await settled(
      async () => (await home.run(['vm', 'exec', 'dev', '--', 'pgrep', '-x', 'sleep'])).status === 0,
    );
    terminal.write('\u0003');
    await terminal.shows('^C');
    const from = terminal.shown().length;
    terminal.write('exit 5\r');
    assert.deepEqual(await terminal.ended(), { status: 5, modes: COOKED });
    assert.doesNotMatch(terminal.shown().slice(from), /after=/);
  });

  test('a program that reads keys gets them one by one, and the terminal is given back', async () => {
    const program = 'stty raw -echo; printf ready; head -c 3 | od -An -tx1';
    await using terminal = new Terminal(home, ['vm', 'exec', 'dev', '--', 'sh', '-c', program]);
    await terminal.shows('ready');
    terminal.write('\u0003\u001a\r');
    await terminal.shows('03 1a 0d');
    assert.deepEqual(await terminal.ended(), { status: 0, modes: COOKED });
  });

  test('-T on a terminal: the program has none', async () => {
    await using terminal = new Terminal(home, ['vm', 'exec', 'dev', '-T', '--', 'tty']);
    await terminal.shows('not a tty');
    assert.equal((await terminal.ended()).status, 1);
  });

  test('-t without a terminal: the program has one, stdout and stderr are one', async () => {
    const outcome = await home.run(['vm', 'exec', 'dev', '-t', '--', 'sh', '-c', 'tty; echo err >&2']);
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.match(outcome.stdout.toString(), /^\/dev\/pts\/\d+\r\nerr\r\n$/);
  });

  test('closing the terminal ends the shell in the guest', async () => {
    {
      await using terminal = new Terminal(home, [
        'vm',
        'exec',
        'dev',
        '--',
        'bash',
        '-c',
        'echo ready; exec -a hung-up sleep 1000',
      ]);
      await terminal.shows('ready');
    }
    await settled(
      async () => (await home.run(['vm', 'exec', 'dev', '--', 'pgrep', '-f', '[h]ung-up'])).status === 1,
    );
    assert.equal((await home.run(['vm', 'exec', 'dev', '--', 'pgrep', '-f', '[h]ung-up'])).status, 1);
  });

  test('vm run --rm with a shell: the prompt, its end, and the VM is gone', async () => {
    await using terminal = new Terminal(home, ['vm', 'run', '--rm', '--name', 'shell']);
    await terminal.shows('shell: ready in');
    await terminal.shows('# ');
    terminal.write('hostname; exit 9\r');
    await terminal.shows('\nshell\n');
    assert.equal((await terminal.ended()).status, 9);
    assert.deepEqual(
      (await home.vms()).map((vm) => vm.name),
      ['dev'],
    );
  });
});
