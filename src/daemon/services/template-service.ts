/**
 * Memory templates: which one a start may use, making those that are missing, and letting go of those that are not worth
 * their space. A template is a cache entry: whatever is wrong with one, the VM is booted instead.
 */

import { BangerError, errorText } from '../../core/errors.ts';
import type { Progress } from '../../api/contract.ts';
import { now } from '../../host/clock.ts';
import { frozenPaths } from '../../frozen/manifest.ts';
import type { Log } from '../../host/log.ts';
import type { Template, TemplateStore, TemplateUse } from '../../frozen/template-store.ts';
import type { OperationHandle } from '../operations.ts';
import { SingleFlight } from '../single-flight.ts';
import { endStrayVmms } from '../stray-vmm.ts';
import type { TemplateMaker } from './template-maker.ts';
import type { TemplateKeys, TemplateWanted } from './template-keys.ts';
import type { FrozenMemory, MemoryVerifier } from './memory-verifier.ts';

/** A template from which this many starts have failed is made anew. */
const MAX_FAILURES = 2;
const MAKE_TIMEOUT_MS = 180_000;

export interface TemplateServiceDeps {
  readonly store: TemplateStore;
  readonly keys: TemplateKeys;
  readonly maker: TemplateMaker;
  readonly verifier: MemoryVerifier;
  readonly log: Log;
  /** Blocks that all templates together may occupy; 0: there are none. */
  readonly maxBytes: number;
}

export interface ListedTemplate extends Template, TemplateUse {}

export class TemplateService {
  readonly #deps: TemplateServiceDeps;
  readonly #flights = new SingleFlight<Template, Progress>();
  /** Made one after the other: each takes a core for seconds, and nobody waits for them. */
  #queue: Promise<unknown> = Promise.resolve();
  readonly #queued = new Set<string>();
  readonly #stop = new AbortController();

  constructor(deps: TemplateServiceDeps) {
    this.#deps = deps;
  }

  /** Before serving: ends and removes what an earlier daemon left half made. */
  async settle(): Promise<void> {
    const { store, log } = this.#deps;
    for (const path of await store.leftovers()) {
      const pids = await endStrayVmms(path);
      log.warn({ path, pids }, 'sweeping a template that was not finished');
      await store.sweep(path);
    }
  }

  /** A template for exactly this, whose files are what was frozen. Undefined: boot. */
  async find(wanted: TemplateWanted, signal: AbortSignal): Promise<Template | undefined> {
    const { store, keys, verifier, log, maxBytes } = this.#deps;
    if (maxBytes === 0 || !keys.areSupported) return undefined;
    const template = await store.find((await keys.of(wanted, signal)).key);
    if (template === undefined) return undefined;
    try {
      await verifier.verify(memoryOf(template), signal);
      return template;
    } catch (error) {
      if (!(error instanceof BangerError) || error.code !== 'verify_failed') throw error;
      log.warn(
        { key: template.key, reason: errorText(error) },
        'a template is damaged; it will be made again',
      );
      await store.remove(template.key);
      return undefined;
    }
  }

  /**
   * The template, made first where there is none. Callers that want the same one share the work.
   * @throws {BangerError} `unsupported`, `limit_exceeded` (larger than all templates may be), what a boot throws
   */
  async ensure(wanted: TemplateWanted, operation: OperationHandle): Promise<Template> {
    const { keys, maxBytes } = this.#deps;
    if (maxBytes === 0) {
      throw new BangerError('unsupported', 'templates are turned off', {
        hint: 'set max_size in [templates] of config.toml to more than 0',
      });
    }
    keys.assertSupported();
    const known = await this.find(wanted, operation.signal);
    if (known !== undefined) return known;
    const { key } = await keys.of(wanted, operation.signal);
    return await this.#flights.join(
      key,
      { signal: operation.signal, onProgress: operation.progress },
      (signal, onProgress) => this.#make(wanted, signal, onProgress),
    );
  }

  /** Makes it when there is time; what goes wrong is logged, and the next boot tries again. */
  makeLater(wanted: TemplateWanted): void {
    const { keys, log, maxBytes } = this.#deps;
    if (maxBytes === 0 || !keys.areSupported) return;
    const name = JSON.stringify([wanted.image.record.id, wanted.vcpus, wanted.memoryMib, wanted.platform]);
    if (this.#queued.has(name) || this.#stop.signal.aborted) return;
    this.#queued.add(name);
    this.#queue = this.#queue
      .then(async () => {
        const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(MAKE_TIMEOUT_MS)]);
        const unwatched = { signal, progress: () => undefined, about: () => undefined };
        if (!signal.aborted) await this.ensure(wanted, unwatched);
      })
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted) log.warn({ err: error }, 'could not make a template');
      })
      .finally(() => this.#queued.delete(name));
  }

  /** A start from it came to nothing: counted, and after the second one the template is thrown away. */
  async failed(template: Template, error: unknown): Promise<void> {
    const { store, log } = this.#deps;
    const { key, manifest } = template;
    const reason = errorText(error).slice(0, 1000);
    log.warn({ key, reason }, 'a start from a template failed; booting instead');
    await store.noteFailure({ at: now(), key, image: manifest.image.name, reason });
    const since = (await store.failures()).filter((one) => one.key === key && one.at >= manifest.createdAt);
    const isDamaged = error instanceof BangerError && error.code === 'verify_failed';
    if (isDamaged || since.length >= MAX_FAILURES) await store.remove(key);
  }

  async markUsed({ key }: Template): Promise<void> {
    await this.#deps.store.markUsed(key);
  }

  /** Last used first. */
  async list(): Promise<readonly ListedTemplate[]> {
    const { store } = this.#deps;
    const listed = await Promise.all(
      (await store.list()).map(async (template) => ({ ...template, ...(await store.use(template.key)) })),
    );
    return listed.sort((a, b) => (a.usedAt < b.usedAt ? 1 : -1));
  }

  /** Removes those of other contents than an image or kernel has now: nothing can start from them any more. */
  async collect(current: {
    readonly rootfs: ReadonlySet<string>;
    readonly kernels: ReadonlySet<string>;
  }): Promise<void> {
    const { store, log } = this.#deps;
    for (const { key, manifest } of await store.list()) {
      if (current.rootfs.has(manifest.image.rootfsSha256) && current.kernels.has(manifest.kernel.sha256))
        continue;
      log.info({ key, image: manifest.image.name }, 'removing the template of an image that is gone');
      await store.remove(key);
    }
  }

  /** Ends what is being made, and waits until nothing of it is left. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#queue;
  }

  async #make(
    wanted: TemplateWanted,
    signal: AbortSignal,
    onProgress: (progress: Progress) => void,
  ): Promise<Template> {
    const { store, keys, maker, verifier, log } = this.#deps;
    const began = performance.now();
    const facts = await keys.of(wanted, signal);
    await maker.make(wanted, facts, signal, onProgress);
    const made = await store.find(facts.key);
    if (made === undefined) throw new BangerError('io_error', 'the new template cannot be read');
    // What it was made of was read for its digest just now.
    await verifier.trust(memoryOf(made));
    const { allocatedBytes } = await store.use(facts.key);
    const durationMs = Math.round(performance.now() - began);
    log.info(
      { key: facts.key, image: wanted.image.record.name, allocatedBytes, durationMs },
      'made a template',
    );
    await this.#evict(facts.key);
    return made;
  }

  /** The least recently used go first; the one just made only when it alone is too large. */
  async #evict(justMade: string): Promise<void> {
    const { store, maxBytes, log } = this.#deps;
    const byUse = await this.list();
    const inOrder = [
      ...byUse.filter(({ key }) => key === justMade),
      ...byUse.filter(({ key }) => key !== justMade),
    ];
    let total = 0;
    for (const { key, allocatedBytes } of inOrder) {
      total += allocatedBytes;
      if (total <= maxBytes) continue;
      log.info({ key, total, maxBytes }, 'removing a template to keep within max_size');
      await store.remove(key);
      if (key !== justMade) continue;
      throw new BangerError(
        'limit_exceeded',
        `the template needs ${allocatedBytes} bytes, max_size is ${maxBytes}`,
        {
          hint: 'raise max_size in [templates] of config.toml, or use --cold',
        },
      );
    }
  }
}

function memoryOf({ dir, manifest }: Template): FrozenMemory {
  return { path: frozenPaths(dir).memory, ...manifest.memory };
}
