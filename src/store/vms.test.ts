import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { BangerError, type ErrorCode } from '../core/errors.ts';
import type { VmRecord } from '../core/model/vm.ts';
import { someImage, someVm, someWorkspace } from '../../test/helpers/store-records.ts';
import { openStore, type Store } from './store.ts';
import { assertReadable } from './vm-row.ts';

const PREFIX = '172.16.0';
const image = someImage();
const workspace = someWorkspace();

let dir = '';
let store: Store;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vms-'));
  store = openStore(join(dir, 'state.db'));
  store.upsertImage(image);
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true });
});

const insert = (change: Partial<VmRecord> = {}): VmRecord => store.insertVm(someVm(image.id, change), PREFIX);

const failsWith = (code: ErrorCode, message: RegExp) => (error: unknown) =>
  error instanceof BangerError && error.code === code && message.test(error.message);

/** As another program would: the stock shell. */
function tamper(sql: string): void {
  const shell = spawnSync('sqlite3', [join(dir, 'state.db'), sql], { encoding: 'utf8' });
  assert.equal(shell.status, 0, shell.stderr);
}

test('a VM reads back as it was written, however it is asked for', () => {
  const vm = insert({
    runtime: { pending: 'create', accelerator: 'tcg', machine: 'microvm', bootId: 'b', lastError: 'é\n"' },
    stats: { cpuMs: 12.5, rssBytes: 1, diskBytes: 0, sampledAt: 'x' },
    workspace,
  });
  assert.equal(vm.guestIp, '172.16.0.2');
  for (const read of [
    store.getVmById(vm.id),
    store.getVmByName('dev'),
    store.getVmByIdOrName(vm.id),
    store.getVmByIdOrName('dev'),
    store.listVms()[0],
    store.vmsUsingImage(image.id)[0],
  ]) {
    assert.deepEqual(read, vm);
  }
  assert.equal(store.getVmByIdOrName(vm.id.slice(0, 12)), undefined, 'prefixes are not the store’s');
  assert.deepEqual(store.vmsUsingImage('other'), []);
  assert.doesNotThrow(() => assertReadable(vm));
});

test('a taken name is refused and costs no address', () => {
  insert();
  assert.throws(() => insert(), failsWith('already_exists', /^VM name "dev" is taken$/));
  assert.equal(insert({ name: 'dev2' }).guestIp, '172.16.0.3');
});

test('addresses: the lowest free one, again after a deletion, until none is left', () => {
  const vms = Array.from({ length: 253 }, (_, i) => insert({ name: `vm-${i}` }));
  assert.deepEqual(
    vms.map((vm) => vm.guestIp),
    Array.from({ length: 253 }, (_, i) => `172.16.0.${i + 2}`),
  );
  assert.throws(() => insert(), failsWith('limit_exceeded', /no guest addresses available/));
  assert.throws(() => insert({ name: 'vm-7' }), failsWith('already_exists', /taken/));
  store.deleteVm(vms[100]?.id ?? '');
  assert.equal(insert().guestIp, '172.16.0.102');
  assert.equal(store.insertVm(someVm(image.id, { name: 'other-net' }), '10.0.0').guestIp, '10.0.0.2');
});

test('an image that was deleted meanwhile is an error and leaves no row', () => {
  assert.throws(
    () => store.insertVm(someVm('gone'), PREFIX),
    failsWith('not_found', /image of VM "dev" was deleted/),
  );
  assert.deepEqual(store.listVms(), []);
});

test('a lifecycle write overwrites neither the workspace, nor the creation, nor a later touch', () => {
  const vm = insert();
  assert.ok(store.setVmWorkspace(vm.id, workspace, '2026-02-01T00:00:00.000Z'));
  assert.ok(store.touchVm(vm.id, '2026-03-01T00:00:00.000Z'));
  store.upsertVm({
    ...vm,
    state: 'running',
    createdAt: 'x',
    workspace: null,
    updatedAt: '2026-04-01T00:00:00.000Z',
  });
  assert.deepEqual(store.getVmById(vm.id), {
    ...vm,
    state: 'running',
    workspace,
    updatedAt: '2026-04-01T00:00:00.000Z',
    lastTouchedAt: '2026-03-01T00:00:00.000Z',
  });
  assert.ok(store.touchVm(vm.id, '2020-01-01T00:00:00.000Z'));
  assert.equal(store.getVmById(vm.id)?.lastTouchedAt, '2026-03-01T00:00:00.000Z');
  store.setVmWorkspace(vm.id, null, 'x');
  assert.equal(store.getVmById(vm.id)?.workspace, null);
});

test('an upsert may insert, and meets the same constraints', () => {
  const vm = insert();
  const other: VmRecord = { ...someVm(image.id, { name: 'other' }), guestIp: '172.16.0.9' };
  store.upsertVm(other);
  assert.equal(store.getVmByName('other')?.guestIp, '172.16.0.9');
  assert.throws(
    () => store.upsertVm({ ...other, name: 'dev' }),
    failsWith('already_exists', /name "dev" is taken/),
  );
  const sameAddress = { ...other, guestIp: vm.guestIp };
  assert.throws(
    () => store.upsertVm(sameAddress),
    failsWith('already_exists', /address 172\.16\.0\.2 is taken/),
  );
});

test('a sample changes only the sample', () => {
  const vm = insert({ state: 'running' });
  assert.ok(store.setVmStats(vm.id, { cpuMs: 5 }));
  assert.deepEqual(store.getVmById(vm.id), { ...vm, stats: { cpuMs: 5 } });
});

test('writes to a VM that is gone say so', () => {
  assert.equal(store.deleteVm('x'), false);
  assert.equal(store.touchVm('x', 'y'), false);
  assert.equal(store.setVmStats('x', {}), false);
  assert.equal(store.setVmWorkspace('x', null, 'y'), false);
});

test('the list is ordered by creation, then by id', () => {
  const id = (digit: string): string => digit.repeat(32);
  const at = (ms: number): string => `2026-01-01T00:00:00.00${ms}Z`;
  insert({ id: id('b'), name: 'one', createdAt: at(1) });
  insert({ id: id('a'), name: 'two', createdAt: at(1) });
  insert({ id: id('f'), name: 'three', createdAt: at(0) });
  assert.deepEqual(
    store.listVms().map((vm) => vm.name),
    ['three', 'two', 'one'],
  );
});

test('what could not be read back is refused at the write', () => {
  const vm = insert();
  assert.throws(() => store.upsertVm({ ...vm, stats: { cpuMs: Number.NaN } }));
  assert.throws(() => store.setVmStats(vm.id, { rssBytes: -1 }));
  assert.throws(() => store.upsertVm({ ...vm, spec: { ...vm.spec, vcpus: 0 } }));
  assert.deepEqual(store.getVmById(vm.id), vm);
});

test('a damaged row is a VM in state error that names the row, and no other suffers', () => {
  const vm = insert({ state: 'running' });
  insert({ name: 'sound' });
  const breakages: readonly (readonly [string, RegExp])[] = [
    ["spec_json = '{'", /spec_json: .*JSON/],
    ["spec_json = '{}'", /spec_json: imageName/],
    ["spec_json = X'00'", /spec_json/],
    ["runtime_json = '[]'", /runtime_json/],
    ['stats_json = \'{"cpuMs":"x"}\'', /stats_json: cpuMs/],
    ['workspace_json = \'{"guestPath":1}\'', /workspace_json/],
    ["state = 'dancing'", /state: /],
    ["guest_ip = '999.1.1.1'", /guest_ip: not an IPv4 address/],
    ["name = 'Bad Name' || char(27)", /name: the VM name/],
  ];
  for (const [set, message] of breakages) {
    tamper(`UPDATE vms SET ${set} WHERE id = '${vm.id}'`);
    const listed = store.listVms();
    assert.equal(listed.length, 2, set);
    const broken = listed.find((each) => each.id === vm.id);
    assert.equal(broken?.state, 'error', set);
    assert.match(
      broken.runtime.lastError ?? '',
      /^the row of VM ".*" \([0-9a-f]{32}\) in the state database is damaged: /,
    );
    assert.match(broken.runtime.lastError ?? '', message);
    assert.doesNotMatch(broken.name, /[^\x20-\x7e]/);
    assert.deepEqual(store.getVmById(vm.id), broken);
    assert.equal(listed.find((each) => each.name === 'sound')?.state, 'created');
    store.deleteVm(vm.id);
    store.upsertVm(vm);
    assert.equal(store.getVmById(vm.id)?.state, 'running');
  }
});

test('a spec that cannot be read starts nothing, survives a lifecycle write, and can be deleted', () => {
  const vm = insert();
  tamper("UPDATE vms SET spec_json = 'evidence'");
  const broken = store.getVmById(vm.id);
  assert.ok(broken);
  assert.throws(() => assertReadable(broken), failsWith('io_error', /is damaged: spec_json/));
  assert.throws(() => assertReadable({ ...broken, state: 'stopped' }), BangerError, 'copies are known too');
  store.upsertVm({ ...broken, state: 'stopping' });
  const shell = spawnSync('sqlite3', [join(dir, 'state.db'), 'SELECT spec_json, state FROM vms'], {
    encoding: 'utf8',
  });
  assert.equal(shell.stdout, 'evidence|stopping\n');
  assert.ok(store.deleteVm(vm.id));
});

test('an id that is no id is kept away from paths', () => {
  tamper(
    `INSERT INTO vms SELECT '../../etc', 'evil', '${image.id}', '172.16.0.77', 'stopped', '1', '1', '1', '{}', '{}', '{}', '{}'`,
  );
  const [evil] = store.listVms();
  assert.equal(evil?.id, '??????etc');
  assert.equal(evil.state, 'error');
});

test('whatever lies in the columns, the list is read', () => {
  const value = fc.oneof(
    fc.constant('NULL'),
    fc.integer().map(String),
    fc.uint8Array({ maxLength: 8 }).map((bytes) => `X'${Buffer.from(bytes).toString('hex')}'`),
    fc.json({ maxDepth: 2 }).map((text) => `CAST(X'${Buffer.from(text).toString('hex')}' AS TEXT)`),
  );
  const vm = insert();
  fc.assert(
    fc.property(
      fc.constantFrom('spec_json', 'runtime_json', 'stats_json', 'workspace_json', 'state', 'name'),
      value,
      (column, sql) => {
        // NOT NULL columns refuse NULL: then nothing changed, and the list is read all the same.
        spawnSync('sqlite3', [
          join(dir, 'state.db'),
          `UPDATE vms SET ${column} = ${sql} WHERE id = '${vm.id}'`,
        ]);
        const [read] = store.listVms();
        assert.equal(read?.id, vm.id);
        assert.equal(typeof read.name, 'string');
      },
    ),
    { numRuns: 60 },
  );
});

test('NULL, an empty text and {} all mean: no workspace', () => {
  insert();
  for (const text of ["''", "'{}'"]) {
    tamper(`UPDATE vms SET workspace_json = ${text}`);
    assert.equal(store.listVms()[0]?.workspace, null);
    assert.equal(store.listVms()[0]?.state, 'created');
  }
});

test('a row from before there were published ports publishes none', () => {
  const { id } = insert();
  const publish = [{ hostAddress: '::1', hostPort: 0, guestPort: 80 }];
  const { publish: _, ...older } = someVm(image.id).spec;
  tamper(`UPDATE vms SET spec_json = '${JSON.stringify(older)}'`);
  assert.deepEqual([store.getVmById(id)?.spec.publish, store.getVmById(id)?.state], [[], 'created']);
  tamper(`UPDATE vms SET spec_json = '${JSON.stringify({ ...older, publish })}'`);
  assert.deepEqual(store.getVmById(id)?.spec.publish, publish);
  for (const wrong of [{ hostPort: 65536 }, { guestPort: 0 }, { hostAddress: 'x'.repeat(65) }]) {
    tamper(
      `UPDATE vms SET spec_json = '${JSON.stringify({ ...older, publish: [{ ...publish[0], ...wrong }] })}'`,
    );
    assert.equal(store.getVmById(id)?.state, 'error');
  }
});
