import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ImageEntry } from '../../../api/results/image.ts';
import { BangerError } from '../../../core/errors.ts';
import type { Template } from '../../../frozen/template-store.ts';
import type { Platform } from '../../../vmm/driver.ts';
import type { LocalImage } from '../images/image-service.ts';
import { TemplateCollector } from './template-collector.ts';
import type { TemplateFacts } from './template-keys.ts';

const NEVER = new AbortController().signal;
const TCG = { accelerator: 'tcg', machine: 'microvm' } as Platform;
const Q35 = { accelerator: 'tcg', machine: 'q35' } as Platform;
const KVM = { accelerator: 'kvm', machine: 'microvm' } as Platform;

function image(name: string, sha256: string): ImageEntry {
  return { name, rootfs: { sha256 }, problem: null } as ImageEntry;
}

/** A key is what it was made of, in words. */
function template(key: string, rootfsSha256 = 'rootfs'): Template {
  const manifest = { image: { rootfsSha256 }, vcpus: 2, memoryMib: 512, accelerator: 'tcg' };
  return { key, manifest } as unknown as Template;
}

interface World {
  readonly images?: readonly ImageEntry[];
  readonly known?: Readonly<Record<string, Platform>>;
  readonly agent?: string;
  readonly keysError?: Error;
}

async function isUseful(one: Template, world: World = {}, signal = NEVER): Promise<boolean> {
  const { images = [image('i', 'rootfs')], known = { auto: TCG }, agent = 'agent' } = world;
  const collector = new TemplateCollector({
    images: { list: async () => images, find: async () => ({ kernel: {} }) as LocalImage },
    platforms: { known: async (accel) => known[accel] },
    keys: {
      of: async ({ platform, vcpus, memoryMib }) => {
        if (world.keysError !== undefined) throw world.keysError;
        return { key: [platform.machine, vcpus, memoryMib, agent].join(' ') } as TemplateFacts;
      },
    },
  });
  return await collector.isUseful(one, signal);
}

test('a template whose key can come again is kept; of another image, agent or machine it is not', async () => {
  const current = template('microvm 2 512 agent');
  assert.equal(await isUseful(current), true);
  assert.equal(await isUseful(template('microvm 2 512 agent', 'older')), false);
  assert.equal(await isUseful(current, { images: [] }), false);
  assert.equal(await isUseful(current, { agent: 'newer' }), false);
  assert.equal(await isUseful(current, { known: { auto: Q35 } }), false);
});

test('any way to ask for its accelerator counts', async () => {
  const current = template('microvm 2 512 agent');
  assert.equal(await isUseful(current, { known: { auto: KVM, tcg: TCG } }), true);
  assert.equal(await isUseful(current, { known: { auto: Q35, tcg: TCG } }), true);
});

test('in doubt it is kept: an image that cannot be read, a host not probed, a VMM that cannot be asked', async () => {
  const older = template('microvm 2 512 agent', 'older');
  const broken = { name: 'b', problem: 'it is broken' } as ImageEntry;
  assert.equal(await isUseful(older, { images: [image('i', 'rootfs'), broken] }), true);
  assert.equal(await isUseful(template('x'), { known: {} }), true);
  assert.equal(await isUseful(template('x'), { known: { auto: KVM } }), true);
  const keysError = new BangerError('dependency_missing', 'no QEMU');
  assert.equal(await isUseful(template('x'), { keysError }), true);
  await assert.rejects(isUseful(template('x'), { keysError }, AbortSignal.abort()), /no QEMU/);
});
