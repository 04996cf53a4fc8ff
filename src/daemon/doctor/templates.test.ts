import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { DoctorHome } from '../../../test/helpers/doctor-home.ts';
import { publishTemplate, templateKey } from '../../../test/helpers/frozen-files.ts';
import { frozenPaths } from '../../frozen/manifest.ts';
import { TemplateStore } from '../../frozen/template-store.ts';
import { temporaryPath } from '../../host/files.ts';
import { newId } from '../../host/ids.ts';
import { vmRuntimeDir } from '../../host/paths.ts';

const KEY = templateKey('a');
const HOUR_MS = 60 * 60_000;

function homeWithTemplates(): { readonly home: DoctorHome; readonly store: TemplateStore } {
  const home = new DoctorHome().makeDirectories();
  mkdirSync(home.paths.templatesDir, { mode: 0o700 });
  return { home, store: new TemplateStore(home.paths.templatesDir) };
}

function settings(home: DoctorHome, text: string): void {
  mkdirSync(home.paths.configDir, { recursive: true, mode: 0o700 });
  writeFileSync(home.paths.configFile, text, { mode: 0o600 });
}

test('nothing yet is fine', async () => {
  using home = new DoctorHome();
  assert.equal(await home.says('images.templates'), 'ok: none');
  assert.equal(await home.says('images.template-failures'), 'ok: none has failed in the last 7 days');
  assert.equal(await home.says('images.template-leftovers'), 'ok: none');
  assert.equal(await home.says('images.template-digests'), 'ok: nothing to read');
});

test('images.templates: how many and how large, too many, damaged ones', async () => {
  const { home, store } = homeWithTemplates();
  using _ = home;
  const says = async (): Promise<string> => await home.says('images.templates');
  const dir = await publishTemplate(store, home.paths.templatesDir, KEY);
  assert.match(await says(), /^ok: 1, \d.* KiB of 4 GiB$/);
  settings(home, '[templates]\nmax_size = 0\n');
  assert.match(await says(), /^info: 1 takes \d.* of 0 B \(max_size\) → the next start of the daemon/);
  truncateSync(frozenPaths(dir).memory, 4096);
  assert.match(
    await says(),
    /^warning: template aaaaaaaaaaaa: .*memory has 4096 bytes; its manifest says 1048576 → nothing: the next VM/,
  );
  writeFileSync(join(dir, 'manifest.json'), '{');
  assert.match(await says(), /^warning: template a+: .*manifest\.json is not JSON/);
  rmSync(dir, { recursive: true });
  assert.equal(await says(), 'ok: turned off (max_size)');
});

test('images.template-failures: those of the last 7 days, the last one in its words', async () => {
  const { home, store } = homeWithTemplates();
  using _ = home;
  const fail = (hoursAgo: number, reason: string) =>
    store.noteFailure({
      ...{ key: KEY, image: 'debian-bookworm', reason },
      at: new Date(Date.now() - hoursAgo * HOUR_MS).toISOString(),
    });
  const says = async (): Promise<string> => await home.says('images.template-failures');
  await fail(8 * 24, 'long ago');
  assert.match(await says(), /^ok/);
  await fail(49, 'the guest did not answer');
  assert.match(
    await says(),
    /^warning: 1 failed in the last 7 days, .*; the last 2d1h ago: the guest did not answer → nothing, if it was once/,
  );
  for (const _one of [1, 2, 3, 4]) await fail(1, 'again');
  assert.match(
    await says(),
    /^warning: 5 failed .* → its template is left alone for a day; banger image warm debian-bookworm tries/,
  );
});

test('images.template-leftovers', async () => {
  const { home, store } = homeWithTemplates();
  using _ = home;
  await using living = await store.draft(KEY);
  assert.equal(await home.says('images.template-leftovers'), 'ok: none', living.dir);
  const dead = temporaryPath(join(home.paths.templatesDir, KEY)).replace(/\.tmp-\d+-\d+-/, '.tmp-1-1-');
  mkdirSync(dead);
  mkdirSync(join(home.paths.templatesDir, templateKey('b')));
  assert.match(
    await home.says('images.template-leftovers'),
    /^warning: .* was left half (made|removed) → the next start.*\nwarning: .* was left half (made|removed) → /,
  );
});

test('images.template-digests: a changed byte in any file', async () => {
  for (const file of ['memory', 'rootDisk', 'state'] as const) {
    const { home, store } = homeWithTemplates();
    using _ = home;
    const dir = await publishTemplate(store, home.paths.templatesDir, KEY);
    assert.equal(await home.says('images.template-digests'), 'ok: 1 is as it was made');
    const path = frozenPaths(dir)[file];
    writeFileSync(path, 'A', { flag: 'r+' });
    assert.match(
      await home.says('images.template-digests'),
      new RegExp(`^warning: template a+: ${path} has changed since it was made`),
    );
  }
});

/** As a VMM: a socket directory of its own, and a memory in a draft. */
async function maker(home: DoctorHome, draft: string, context: TestContext): Promise<void> {
  const socketDir = vmRuntimeDir(home.paths, newId());
  mkdirSync(socketDir, { mode: 0o700 });
  const script = 'process.stdout.write("up"); setInterval(() => {}, 1000)';
  const argv = ['-e', script, `path=${socketDir}/qmp.sock`, `mem-path=${draft}/memory,share=on`];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'ignore'] });
  context.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
}

test('the machine of a template that is being made is no orphan; that of a dead daemon is', async (context) => {
  const { home, store } = homeWithTemplates();
  using _ = home;
  {
    await using draft = await store.draft(KEY);
    await maker(home, draft.dir, context);
    assert.match(await home.says('vms.orphan-processes'), /^ok/);
    assert.equal(await home.says('vms.sockets'), 'info: not looked at while a template is being made');
  }
  assert.match(await home.says('vms.sockets'), /^warning/);
  await maker(home, join(home.paths.templatesDir, `.${KEY}.tmp-1-1-0123456789ab`), context);
  assert.match(await home.says('vms.orphan-processes'), /^warning: process \d+ works in /);
});
