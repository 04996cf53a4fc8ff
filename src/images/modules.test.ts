import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { elfSection } from './elf-section.ts';
import { loadOrder, type ModuleInfo, moduleNameOf, parseBuiltinModules, parseModuleInfo } from './modules.ts';

/** An ELF64 file with the sections given and a section name table. */
function elfWith(sections: Readonly<Record<string, Uint8Array>>): Buffer {
  const names = ['', ...Object.keys(sections), '.shstrtab'];
  const table = Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1');
  const contents = [new Uint8Array(), ...Object.values(sections), table];
  const body: Buffer[] = [];
  const headers = Buffer.alloc(64 * contents.length);
  let offset = 64;
  let nameAt = 0;
  contents.forEach((content, index) => {
    headers.writeUInt32LE(nameAt, index * 64);
    headers.writeBigUInt64LE(BigInt(offset), index * 64 + 24);
    headers.writeBigUInt64LE(BigInt(content.length), index * 64 + 32);
    nameAt += (names[index] ?? '').length + 1;
    offset += content.length;
    body.push(Buffer.from(content));
  });
  const head = Buffer.alloc(64);
  head.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  head.writeBigUInt64LE(BigInt(offset), 40);
  head.writeUInt16LE(64, 58);
  head.writeUInt16LE(contents.length, 60);
  head.writeUInt16LE(contents.length - 1, 62);
  return Buffer.concat([head, ...body, headers]);
}

test('names are the same with a hyphen or an underscore, with or without directories', () => {
  assert.equal(moduleNameOf('kernel/drivers/char/hw_random/virtio-rng.ko'), 'virtio_rng');
  assert.equal(moduleNameOf('virtio_blk.ko.zst'), 'virtio_blk');
});

test('reads modules.builtin', () => {
  const builtin = parseBuiltinModules(
    'kernel/fs/ext4/ext4.ko\nkernel/drivers/char/hw_random/rng-core.ko\n\n',
  );
  assert.deepEqual([...builtin], ['ext4', 'rng_core']);
});

test('reads the dependencies of a module', () => {
  const modinfo = Buffer.from('license=GPL\0depends=virtio_ring,net-failover\0name=virtio_net\0', 'latin1');
  const bytes = elfWith({ '.text': Buffer.alloc(10), '.modinfo': modinfo });
  assert.deepEqual(parseModuleInfo('a/virtio_net.ko', bytes), {
    name: 'virtio_net',
    depends: ['virtio_ring', 'net_failover'],
  });
  const alone = elfWith({ '.modinfo': Buffer.from('depends=\0', 'latin1') });
  assert.deepEqual(parseModuleInfo('x.ko', alone).depends, []);
  assert.throws(() => parseModuleInfo('x.ko', Buffer.from('no elf')), { code: 'bad_request' });
});

test('a damaged ELF file gives no section and no crash', () => {
  const good = elfWith({ '.modinfo': Buffer.from('depends=a\0') });
  fc.assert(
    fc.property(fc.nat(good.length), fc.nat(good.length - 1), fc.nat(255), (length, at, value) => {
      const bytes = Buffer.from(good);
      bytes[at] = value;
      elfSection(bytes.subarray(0, length), '.modinfo');
    }),
    { numRuns: 2000 },
  );
});

function loader(graph: Readonly<Record<string, readonly string[]>>) {
  return async (name: string): Promise<ModuleInfo | undefined> => {
    const depends = graph[name];
    return depends === undefined ? undefined : { name, depends };
  };
}

test('every module comes after what it depends on, once, and built-in ones not at all', async () => {
  const graph = { net: ['failover', 'ring', 'core'], failover: ['ring'], ring: [], blk: ['ring'] };
  const order = await loadOrder(['net', 'blk', 'ring'], new Set(['core']), loader(graph));
  assert.deepEqual(
    order.map(({ name }) => name),
    ['failover', 'net', 'blk'].toSpliced(0, 0, 'ring'),
  );
});

test('any acyclic graph is put in an order that loads', async () => {
  const graphs = fc.array(fc.array(fc.nat(30), { maxLength: 5 }), { minLength: 1, maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(graphs, async (lists) => {
      const graph = Object.fromEntries(
        lists.map((list, index) => [`m${index}`, list.filter((to) => to < index).map((to) => `m${to}`)]),
      );
      const order = await loadOrder(Object.keys(graph).reverse(), new Set(), loader(graph));
      const loaded = new Set<string>();
      for (const { name, depends } of order) {
        assert(depends.every((dependency) => loaded.has(dependency)));
        assert(!loaded.has(name));
        loaded.add(name);
      }
      assert.equal(loaded.size, lists.length);
    }),
  );
});

test('says who needs a module that is missing, and which modules go in circles', async () => {
  await assert.rejects(loadOrder(['a'], new Set(), loader({ a: ['b'] })), /no module b \(needed as a → b\)/);
  await assert.rejects(loadOrder(['a'], new Set(), loader({ a: ['b'], b: ['a'] })), /a → b → a/);
});
