import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { BangerError } from '../../core/errors.ts';
import { MAX_STATE_BYTES } from '../frozen-files.ts';
import type { ApiRequest } from './api.ts';
import { save } from './save.ts';

const root = await mkdtemp(join(tmpdir(), 'fc-save-'));
after(() => rm(root, { recursive: true }));
const MIB = 1024 * 1024;

interface Written {
  readonly memoryBytes: number;
  readonly stateBytes: number;
  readonly machine?: unknown;
  readonly fails?: BangerError;
  readonly onCreate?: () => void;
}

/** Saves with a VMM that writes that, into a directory of its own. */
async function saving({ memoryBytes, stateBytes, machine = { mem_size_mib: 2 }, ...more }: Written) {
  const dir = await mkdtemp(join(root, 's-'));
  const abort = new AbortController();
  const asked: string[] = [];
  const call = async ({ method, path, body }: ApiRequest): Promise<unknown> => {
    asked.push(`${method} ${path}`);
    if (path === '/machine-config') return machine;
    const { snapshot_path: state, mem_file_path: memory } = body as Record<string, string>;
    assert(state !== undefined && memory !== undefined);
    for (const file of [state, memory]) assert.equal((await stat(file)).mode & 0o777, 0o600);
    await writeFile(state, 'x'.repeat(Math.min(stateBytes, 100)));
    await truncate(state, stateBytes);
    await truncate(memory, memoryBytes);
    if (more.fails !== undefined) throw more.fails;
    return undefined;
  };
  const onCreate = (): void => {
    asked.push('told');
    if (more.onCreate !== undefined) abort.abort();
  };
  const paths = { statePath: join(dir, 'state'), memoryPath: join(dir, 'memory') };
  const saved = save({ call, onCreate }, { ...paths, signal: abort.signal });
  return { dir, saved, asked, ...paths };
}

test('what it wrote is there, with its size and digest, and readable for nobody else', async () => {
  const { dir, saved, asked, statePath, memoryPath } = await saving({ memoryBytes: 2 * MIB, stateBytes: 3 });
  const state = await saved;
  // sha256 of "xxx".
  const sha256 = 'cd2eb0837c9b4c962c22d2ff8b5441b7b45805887f051d39bf133b583baf6860';
  assert.deepEqual(state, { path: statePath, sizeBytes: 3, sha256 });
  assert.equal(await readFile(statePath, 'utf8'), 'xxx');
  assert.equal((await stat(memoryPath)).size, 2 * MIB);
  assert.deepEqual((await readdir(dir)).sort(), ['memory', 'state']);
  assert.deepEqual(asked, ['GET /machine-config', 'told', 'PUT /snapshot/create']);
});

test('what makes no sense, is too large, or does not come whole leaves nothing', async () => {
  const good = { memoryBytes: 2 * MIB, stateBytes: 3 };
  const noSpace = new BangerError('vmm_failed', 'Cannot write: No space left on device (os error 28)');
  const cases: readonly (readonly [Written, string])[] = [
    [{ ...good, memoryBytes: 2 * MIB + 1 }, 'limit_exceeded'],
    [{ ...good, memoryBytes: 2 * MIB - 1 }, 'vmm_failed'],
    [{ ...good, stateBytes: MAX_STATE_BYTES + 1 }, 'limit_exceeded'],
    [{ ...good, stateBytes: 0 }, 'vmm_failed'],
    [{ ...good, machine: { mem_size_mib: 1e9 } }, 'vmm_failed'],
    [{ ...good, machine: 'two' }, 'vmm_failed'],
    [{ ...good, fails: noSpace }, 'no_space'],
    [{ ...good, fails: new BangerError('timeout', 'late') }, 'timeout'],
    [{ ...good, onCreate: () => {} }, 'cancelled'],
  ];
  for (const [written, code] of cases) {
    const { dir, saved } = await saving(written);
    await assert.rejects(saved, { code }, JSON.stringify(written));
    assert.deepEqual(await readdir(dir), []);
  }
});
