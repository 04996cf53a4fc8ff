/**
 * kill -9 of the daemon and of QEMU while a template is made, used and removed: no process, no directory is left, no half
 * template is ever used, and the next VM comes up.
 */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { published, SMALL_WITH_TEMPLATES, theTemplate } from '../helpers/template-settings.ts';
import { isAlive, type RunOutcome, type Running, settled, TestHome } from '../helpers/test-home.ts';

/** How often a step may be over before it is seen, on a busy host. */
const TRIES = 5;

/** What is there once a step of making a template has come: each is looked for in its draft's directory. */
const STEPS_OF_MAKING = [
  { step: 'the overlay is made', file: 'root.qcow2' },
  { step: 'QEMU runs', file: 'handles.json' },
  { step: 'the guest boots', file: 'handles.json', afterMs: 1000 },
  { step: 'the state is written', file: 'state' },
  { step: 'the manifest is written', file: 'manifest.json' },
] as const;

const STEPS_OF_USING = [
  { step: 'the disk is copied', file: 'root.qcow2' },
  { step: 'QEMU runs', file: 'handles.json' },
  { step: 'the guest is being told who it is', file: 'handles.json', afterMs: 60 },
] as const;

interface Step {
  readonly step: string;
  readonly file: string;
  readonly afterMs?: number;
}

/** Waits for the file in a directory below `parent` whose name fits; undefined when `running` ended before. */
async function reached(
  parent: string,
  name: RegExp,
  step: Step,
  running: Running,
): Promise<string | undefined> {
  const ended = new AbortController();
  void running.done.then(() => ended.abort());
  // Looked at once more after its end: what stays there is found however slow this is.
  for (let isLast = false; !isLast; await new Promise(setImmediate)) {
    isLast = ended.signal.aborted;
    const dirs = (existsSync(parent) ? readdirSync(parent) : []).filter((one) => name.test(one));
    const dir = dirs.map((one) => join(parent, one)).find((one) => existsSync(join(one, step.file)));
    if (dir !== undefined) {
      if (step.afterMs !== undefined) await sleep(step.afterMs);
      return dir;
    }
  }
  return undefined;
}

/** Does `what` once the step of making a template has come; again when the template was there before that was done. */
async function whileMaking(
  home: TestHome,
  step: Step,
  what: (draft: string) => Promise<void>,
): Promise<RunOutcome> {
  for (let left = TRIES; left > 0; left--) {
    const running = home.start(['image', 'warm']);
    const draft = await reached(home.templatesDir, /^\./, step, running);
    if (draft !== undefined) await what(draft);
    const outcome = await running.done;
    if (published(home).length === 0) return outcome;
    await home.run(['daemon', 'stop']);
    for (const dir of published(home)) rmSync(dir, { recursive: true });
    await home.ok(['vm', 'list']);
  }
  assert.fail(`each time it was over before: ${step.step}`);
}

function daemonOf(home: TestHome): number {
  const found = home.processes().find(({ command }) => command.includes('bangerd'));
  assert.ok(found !== undefined, 'no daemon runs');
  return found.pid;
}

async function kill(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await settled(() => !isAlive(pid));
}

/** Nothing but whole templates, and no process but the daemon. */
async function onlyTemplates(home: TestHome, count: number): Promise<void> {
  // These end by themselves: a daemon that lost the race for the state directory, what a new one asks programs at its start.
  const isQuiet = () =>
    home.assertNothingLeft().then(
      () => true,
      () => false,
    );
  await settled(isQuiet);
  await home.assertNothingLeft();
  const names = home.templates().filter((name) => name !== 'failures.json');
  assert.equal(names.length, count, names.join(' '));
  assert.equal(published(home).length, count);
}

describe('kill -9 and templates', () => {
  let home: TestHome;
  before(async () => {
    home = new TestHome(SMALL_WITH_TEMPLATES);
    await home.ok(['vm', 'list']);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  for (const step of STEPS_OF_MAKING) {
    test(`of the daemon while one is made: ${step.step}`, async () => {
      const { status } = await whileMaking(home, step, async () => await kill(daemonOf(home)));
      assert.equal(status, 1);
      await home.ok(['vm', 'list']);
      await onlyTemplates(home, 0);
    });
  }

  for (const step of STEPS_OF_MAKING.filter(({ file }) => file === 'handles.json')) {
    test(`of QEMU while one is made: ${step.step}`, async () => {
      const { status, stderr } = await whileMaking(home, step, async (draft) => {
        // Between fork and exec it has its parent's.
        const machine = () => home.commandLines(`${draft}/root.qcow2`)[0];
        await settled(() => machine() !== undefined || published(home).length > 0);
        const pid = machine()?.pid;
        if (pid !== undefined) process.kill(pid, 'SIGKILL');
      });
      assert.equal(status, 1, stderr);
      // Its connection may break before its end is known.
      assert.match(stderr, /SIGKILL|ended|did not come up/);
      await onlyTemplates(home, 0);
    });
  }

  test('after all that, one is made', async () => {
    await home.ok(['image', 'warm']);
    await onlyTemplates(home, 1);
  });

  for (const step of STEPS_OF_USING) {
    test(`of the daemon while one is used: ${step.step}`, async () => {
      const dir = await theTemplate(home);
      const daemon = daemonOf(home);
      const running = home.start(['vm', 'create', '--name', 'vm']);
      const vm = await reached(join(home.dir, 'state', 'vms'), /^[0-9a-f]{32}$/, step, running);
      assert.ok(vm !== undefined, `it was over before: ${running.stderr()}`);
      await kill(daemon);
      await running.done;
      const vms = await home.vms();
      // Its creation was undone; or it was just done.
      assert.ok(vms.length <= 1, JSON.stringify(vms));
      if (vms.length === 1) await home.ok(['vm', 'delete', 'vm']);
      await onlyTemplates(home, 1);
      assert.equal(await theTemplate(home), dir);
    });

    test(`of QEMU while one is used: ${step.step}`, async () => {
      const dir = await theTemplate(home);
      const running = home.start(['vm', 'create', '--name', 'vm']);
      const vm = await reached(join(home.dir, 'state', 'vms'), /^[0-9a-f]{32}$/, step, running);
      assert.ok(vm !== undefined, running.stderr());
      await settled(() => home.commandLines(`${dir}/memory`).length > 0);
      const [vmm] = home.commandLines(`${dir}/memory`);
      if (vmm !== undefined) process.kill(vmm.pid, 'SIGKILL');
      const { status, stderr } = await running.done;
      assert.equal(status, 0, stderr);
      await settled(async () => (await home.show('vm')).state === 'error', 2000);
      // Killed before it was ready, it was booted; killed just after, it ended unasked.
      if ((await home.show('vm')).state === 'error') await home.ok(['vm', 'start', 'vm']);
      assert.equal(await home.guest('vm', 'hostname'), 'vm');
      await home.ok(['vm', 'delete', 'vm']);
      // What was counted as two failures would be made again: that is another test's.
      rmSync(join(home.templatesDir, 'failures.json'), { force: true });
      await theTemplate(home);
    });
  }

  test('of a daemon that was removing one: VMs that run on it go on, and what is left of it goes', async () => {
    await home.ok(['image', 'warm']);
    const dir = await theTemplate(home);
    await home.ok(['vm', 'create', '--name', 'vm']);
    const { pid, runtime } = await home.show('vm');
    assert.equal(runtime.startedFrom, 'template');
    await kill(daemonOf(home));
    rmSync(join(dir, 'manifest.json'));
    assert.equal((await home.show('vm')).pid, pid);
    assert.ok(isAlive(pid));
    assert.ok(!existsSync(dir));
    assert.equal(await home.guest('vm', 'cat', '/proc/sys/kernel/random/boot_id'), runtime.bootId);
    // Pages it has not read yet are still there.
    await home.guest('vm', 'sh', '-c', 'find /usr/bin -type f | head -50 | xargs cat > /dev/null');
    await home.ok(['vm', 'create', '--name', 'next']);
    assert.equal((await home.show('next')).runtime.startedFrom, 'boot');
    await theTemplate(home);
    await home.ok(['vm', 'delete', 'vm', 'next']);
  });

  test('a limit of 0 at the next start removes all, and starts do without', async () => {
    await theTemplate(home);
    await home.ok(['daemon', 'stop']);
    const settings = '[templates]\nmax_size = 0\n[vm_defaults]\nvcpu = 1\nmemory = "512MiB"\n';
    writeFileSync(join(home.dir, 'config', 'config.toml'), settings);
    await home.ok(['vm', 'list']);
    await settled(() => published(home).length === 0);
    await onlyTemplates(home, 0);
    const refused = await home.run(['image', 'warm']);
    assert.match(refused.stderr, /^banger: templates are turned off\nset max_size/);
    await home.ok(['vm', 'create', '--name', 'vm']);
    assert.equal((await home.show('vm')).runtime.startedFrom, 'boot');
    await home.ok(['vm', 'delete', 'vm']);
    await onlyTemplates(home, 0);
  });
});
