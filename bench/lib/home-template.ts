/** The template that a banger has made, restored by the driver alone: nothing of the daemon, and nothing is told to the guest. */

import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { frozenPaths } from '../../src/frozen/manifest.ts';
import { type Template, TemplateStore } from '../../src/frozen/template-store.ts';
import { copyDisk } from '../../src/images/disk.ts';
import type { VmmDriver } from '../../src/vmm/driver.ts';
import { BareMachine, type BareOptions, bareSpec } from './bare-machine.ts';
import type { ProgramHome } from './program.ts';

const TIMEOUT_MS = 120_000;

/** Waits for the one that is made in the background after the first start. */
export async function templateOf(home: ProgramHome): Promise<Template> {
  const store = new TemplateStore(join(home.dir, 'state', 'templates'));
  const until = performance.now() + TIMEOUT_MS;
  for (;;) {
    const [template] = await store.list();
    if (template !== undefined) return template;
    if (performance.now() > until) throw new Error('no template was made');
    await sleep(200);
  }
}

/**
 * Starts from it with a disk of its own, as the daemon does, until the agent says hello.
 * @param driver one for all: the first use of one measures the host's clock
 */
export async function restoreBare(
  driver: VmmDriver,
  { dir, manifest }: Template,
  options: BareOptions,
): Promise<BareMachine> {
  const own = mkdtempSync(join(tmpdir(), 'bc-'));
  const files = frozenPaths(dir);
  const placed = await bareSpec(own, options, (path) => copyDisk(files.rootDisk, path));
  const spec = { ...placed, memory: { kind: 'file', path: files.memory } } as const;
  const restore = {
    state: { path: files.state, ...manifest.state },
    shape: manifest.shape,
    digests: { kernel: manifest.kernel.sha256, initramfs: manifest.initramfsSha256 },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  };
  const machine = await driver.restore(spec, restore, async () => undefined);
  return await BareMachine.connect(own, machine);
}
