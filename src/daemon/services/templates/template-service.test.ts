import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { fillTemplate, publishTemplate, templateKey } from '../../../../test/helpers/frozen-files.ts';
import { BangerError } from '../../../core/errors.ts';
import { frozenPaths } from '../../../frozen/manifest.ts';
import { type Template, TemplateStore } from '../../../frozen/template-store.ts';
import { NO_LOG } from '../../../host/log.ts';
import { createRunner } from '../../../host/runner.ts';
import { abandonable } from '../../abandonable.ts';
import { FileVerifier } from '../images/file-verifier.ts';
import type { TemplateFacts, TemplateWanted } from './template-keys.ts';
import { TemplateService } from './template-service.ts';

const NEVER = new AbortController().signal;
const UNWATCHED = { signal: NEVER, progress: () => undefined, about: () => undefined };
const TIMEOUT = new BangerError('timeout', 'the guest did not answer');

/** What makes a template is a fake that publishes a few files; the store and the verifier are real. */
class Templates implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'bt-service-'));
  readonly store = new TemplateStore(this.dir);
  /** Keys that were begun to be made. */
  readonly made: string[] = [];
  /** Held up until this settles. */
  gate: Promise<unknown> = Promise.resolve();
  makingError: Error | undefined;
  readonly service: TemplateService;

  constructor(maxBytes = 1024 ** 3) {
    this.service = new TemplateService({
      store: this.store,
      keys: {
        areSupported: true,
        assertSupported: () => undefined,
        of: async ({ vcpus }) => ({ key: templateKey(String(vcpus)) }) as TemplateFacts,
      },
      maker: { make: (_, { key }, signal) => this.#make(key, signal) },
      verifier: new FileVerifier(createRunner()),
      log: NO_LOG,
      maxBytes,
    });
  }

  async #make(key: string, signal: AbortSignal): Promise<void> {
    this.made.push(key);
    await using draft = await this.store.draft(key);
    await abandonable(this.gate, signal);
    if (this.makingError !== undefined) throw this.makingError;
    await this.store.writeManifest(
      draft,
      await fillTemplate(draft.dir, { createdAt: new Date().toISOString() }),
    );
    await draft.publish();
  }

  async add(vcpus: number, usedAtSeconds = 1000): Promise<Template> {
    const key = templateKey(String(vcpus));
    const dir = await publishTemplate(this.store, this.dir, key);
    utimesSync(join(dir, 'used'), usedAtSeconds, usedAtSeconds);
    const template = await this.store.find(key);
    assert.ok(template);
    return template;
  }

  async digits(): Promise<string> {
    return (await this.store.keys()).map((key) => key[0]).join('');
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

function wanted(vcpus: number): TemplateWanted {
  return { vcpus, memoryMib: 512, platform: {}, image: { record: { id: 'i', name: 'i' } } } as TemplateWanted;
}

/** Waits for all that was put off until now: it is done in order, and this collection comes last. */
async function done({ service, store, dir }: Templates): Promise<void> {
  const mark = templateKey('f');
  await publishTemplate(store, dir, mark);
  service.collectLater(async ({ key }) => key !== mark);
  while ((await store.find(mark)) !== undefined) await setTimeout(5);
}

test('two starts that fail: thrown away, and made again; a damaged state: at once', async () => {
  using templates = new Templates();
  const { service, store } = templates;
  const template = await templates.add(1);
  await service.failed(template, TIMEOUT);
  assert.notEqual(await service.find(wanted(1), NEVER), undefined);
  await service.failed(template, TIMEOUT);
  assert.equal(await service.find(wanted(1), NEVER), undefined);
  assert.equal(await templates.digits(), '');
  const failures = await store.failures();
  assert.deepEqual(
    failures.map(({ image, reason }) => [image, reason]),
    [1, 2].map(() => ['debian-bookworm', 'the guest did not answer']),
  );
  const { template: again } = await service.ensure(wanted(1), UNWATCHED);
  await service.failed(again, new BangerError('verify_failed', 'another state'));
  assert.equal(await templates.digits(), '');
});

test('failures of an earlier template do not count against the one made since', async () => {
  using templates = new Templates();
  const { service } = templates;
  const first = await templates.add(1);
  await service.failed(first, TIMEOUT);
  await templates.store.remove(first.key);
  service.makeLater(wanted(1));
  await done(templates);
  const second = await service.find(wanted(1), NEVER);
  assert.ok(second);
  await service.failed(second, TIMEOUT);
  assert.notEqual(await service.find(wanted(1), NEVER), undefined);
});

test('four failures in a day: neither used nor made again, until somebody asks for it', async () => {
  using templates = new Templates();
  const { service } = templates;
  for (const _ of [1, 2]) {
    const { template } = await service.ensure(wanted(1), UNWATCHED);
    const at = new Date().toISOString();
    for (const __ of [1, 2]) {
      await templates.store.noteFailure({ at, key: template.key, image: 'i', reason: 'r' });
    }
    if (_ === 1) continue;
    for (const __ of [1, 2]) {
      await templates.store.noteFailure({ at, key: template.key, image: 'i', reason: 'r' });
    }
  }
  assert.equal(await service.find(wanted(1), NEVER), undefined);
  await templates.store.remove(templateKey('1'));
  service.makeLater(wanted(1));
  await done(templates);
  assert.equal(templates.made.length, 1);
  await service.ensure(wanted(1), UNWATCHED);
  assert.notEqual(await service.find(wanted(1), NEVER), undefined);
});

test('a template that is gone by then did not fail', async () => {
  using templates = new Templates();
  const template = await templates.add(1);
  await templates.store.remove(template.key);
  await templates.service.failed(template, TIMEOUT);
  assert.deepEqual(await templates.store.failures(), []);
});

test('a changed byte of memory or disk: removed, and the VM is booted', async () => {
  for (const file of ['memory', 'rootDisk'] as const) {
    using templates = new Templates();
    const template = await templates.add(1);
    assert.notEqual(await templates.service.find(wanted(1), NEVER), undefined);
    writeFileSync(frozenPaths(template.dir)[file], 'A', { flag: 'r+' });
    assert.equal(await templates.service.find(wanted(1), NEVER), undefined);
    assert.equal(await templates.digits(), '');
  }
});

test('whatever else is wrong with templates, the VM is booted; a cancellation is one', async () => {
  using templates = new Templates();
  const template = await templates.add(1);
  rmSync(template.dir, { recursive: true });
  writeFileSync(template.dir, 'a file in the place of a directory');
  assert.equal(await templates.service.find(wanted(1), NEVER), undefined);
  await templates.add(2);
  await assert.rejects(templates.service.find(wanted(2), AbortSignal.abort()), /cancelled/);
});

test('the least recently used go first when a new one needs their space', async () => {
  using one = new Templates();
  const { allocatedBytes } = await one.store.use((await one.add(9)).key);
  using templates = new Templates(allocatedBytes * 3);
  await templates.add(1, 3000);
  await templates.add(2, 1000);
  await templates.add(3, 2000);
  const { existed } = await templates.service.ensure(wanted(4), UNWATCHED);
  assert.equal(existed, false);
  assert.equal(await templates.digits(), '134');
  await templates.service.ensure(wanted(5), UNWATCHED);
  assert.equal(await templates.digits(), '145');
});

test('one that is too large by itself is refused, removed, and takes no other with it', async () => {
  using one = new Templates();
  const { allocatedBytes } = await one.store.use((await one.add(9)).key);
  using templates = new Templates(allocatedBytes - 1);
  await assert.rejects(
    templates.service.ensure(wanted(1), UNWATCHED),
    (error) =>
      error instanceof BangerError && error.code === 'limit_exceeded' && /max_size/.test(error.hint ?? ''),
  );
  assert.equal(await templates.digits(), '');
  for (const _ of [1, 2, 3]) {
    templates.service.makeLater(wanted(1));
    await done(templates);
  }
  assert.equal(templates.made.length, 2, 'what cannot fit is not made again and again');
});

test('a collection removes what is of no use and what is beyond the limit; with a limit of 0 all', async () => {
  using templates = new Templates();
  for (const vcpus of [1, 2, 3]) await templates.add(vcpus);
  await templates.service.collect(async ({ key }) => !key.startsWith('2'), NEVER);
  assert.equal(await templates.digits(), '13');
  using none = new Templates(0);
  for (const vcpus of [1, 2]) await none.add(vcpus);
  await none.service.collect(async () => true, NEVER);
  assert.equal(await none.digits(), '');
  assert.equal(await none.service.find(wanted(1), NEVER), undefined);
  await assert.rejects(none.service.ensure(wanted(1), UNWATCHED), /turned off/);
});

test('the same template asked for many times is made once; what cannot be made is tried twice', async () => {
  using templates = new Templates();
  for (const _ of [1, 2, 3]) templates.service.makeLater(wanted(1));
  await Promise.all([1, 2].map(() => templates.service.ensure(wanted(1), UNWATCHED)));
  await done(templates);
  assert.equal(templates.made.length, 1);
  const again = await templates.service.ensure(wanted(1), UNWATCHED);
  assert.equal(again.existed, true);
  templates.makingError = new BangerError('vmm_failed', 'no');
  for (const _ of [1, 2, 3, 4]) {
    templates.service.makeLater(wanted(2));
    await done(templates);
  }
  assert.equal(templates.made.length, 3);
});

test('stop ends what is being made, waits until nothing of it is left, and begins nothing else', async () => {
  using templates = new Templates();
  templates.gate = new Promise(() => undefined);
  for (const vcpus of [1, 2]) templates.service.makeLater(wanted(vcpus));
  while (templates.made.length === 0) await new Promise(setImmediate);
  await templates.service.stop();
  assert.deepEqual(readdirSync(templates.dir), []);
  templates.service.makeLater(wanted(3));
  await templates.service.stop();
  assert.equal(templates.made.length, 1);
});

/** A process whose command line names a file, as a VMM's names its memory. */
async function processWith(path: string): Promise<ChildProcess> {
  const script = 'process.stdout.write("up"); setInterval(() => {}, 1000)';
  const child = spawn(process.execPath, ['-e', script, path], { stdio: ['ignore', 'pipe', 'ignore'] });
  await once(child.stdout, 'data');
  return child;
}

test('settle ends the machine in a draft, and never a VM that runs on a template half removed', async () => {
  using templates = new Templates();
  const template = await templates.add(1);
  rmSync(join(template.dir, 'manifest.json'));
  const draft = join(templates.dir, `.${templateKey('2')}.tmp-1-1-0123456789ab`);
  mkdirSync(draft);
  const vm = await processWith(frozenPaths(template.dir).memory);
  const maker = await processWith(frozenPaths(draft).memory);
  const makerEnded = once(maker, 'exit');
  try {
    await templates.service.settle();
    await makerEnded;
    assert.equal(vm.exitCode ?? vm.signalCode, null, 'a VM of a user');
    assert.deepEqual(readdirSync(templates.dir), []);
    assert.ok(!existsSync(draft));
  } finally {
    vm.kill('SIGKILL');
    maker.kill('SIGKILL');
  }
});
