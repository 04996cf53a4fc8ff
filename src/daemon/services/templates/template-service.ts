/**
 * Memory templates: which one a start may use, making those that are missing, and letting go of those that are not worth
 * their space. A template is a cache entry: whatever is wrong with one, the VM is booted instead.
 */

import { BangerError, errorText } from '../../../core/errors.ts';
import { formatSize } from '../../../core/units.ts';
import type { Progress } from '../../../api/contract.ts';
import type { Log } from '../../../host/log.ts';
import type { Template, TemplateStore, TemplateUse } from '../../../frozen/template-store.ts';
import type { OperationHandle } from '../../operations.ts';
import { SingleFlight } from '../../single-flight.ts';
import { endStrayVmms } from '../../stray-vmm.ts';
import type { FileVerifier } from '../images/file-verifier.ts';
import { TemplateFailures } from './template-failures.ts';
import { type TemplateMaker, unverifiedFiles } from './template-maker.ts';
import type { TemplateKeys, TemplateWanted } from './template-keys.ts';

const MAKE_TIMEOUT_MS = 180_000;
/** What could not be made that often is not tried again in the life of the daemon, unless somebody asks for it. */
const MAX_MAKING_FAILURES = 2;

export interface TemplateServiceDeps {
  readonly store: Pick<
    TemplateStore,
    | 'failures'
    | 'find'
    | 'forgetFailures'
    | 'leftovers'
    | 'list'
    | 'markUsed'
    | 'noteFailure'
    | 'remove'
    | 'sweep'
    | 'use'
  >;
  readonly keys: Pick<TemplateKeys, 'areSupported' | 'assertSupported' | 'of'>;
  readonly maker: Pick<TemplateMaker, 'make'>;
  readonly verifier: Pick<FileVerifier, 'forget' | 'trust' | 'verify'>;
  readonly log: Log;
  /** Blocks that all templates together may occupy; 0: there are none. */
  readonly maxBytes: number;
}

export interface ListedTemplate extends Template, TemplateUse {}

export interface EnsuredTemplate {
  readonly template: ListedTemplate;
  /** It was there already. */
  readonly existed: boolean;
}

export class TemplateService {
  readonly #deps: TemplateServiceDeps;
  readonly #failures: TemplateFailures;
  readonly #flights = new SingleFlight<Template, Progress>();
  /** What nobody waits for, one after the other: making one takes a core for seconds. */
  #queue: Promise<unknown> = Promise.resolve();
  readonly #queued = new Set<string>();
  readonly #makingFailures = new Map<string, number>();
  readonly #stop = new AbortController();

  constructor(deps: TemplateServiceDeps) {
    this.#deps = deps;
    this.#failures = new TemplateFailures(deps.store, deps.log);
  }

  /** Before serving: ends and removes what an earlier daemon left half made or half removed. */
  async settle(): Promise<void> {
    const { store, log } = this.#deps;
    for (const leftover of await store.leftovers()) {
      const { path, kind } = leftover;
      // The command line of a VM names the template it was started from: only in a draft is every process ours to end.
      const pids = kind === 'draft' ? await endStrayVmms(path) : [];
      log.warn({ path, pids }, 'sweeping a template that was not finished');
      await store.sweep(leftover);
    }
  }

  /**
   * A template for exactly this, whose files are what was frozen. Undefined: boot.
   * @throws {BangerError} `cancelled`
   */
  async find(wanted: TemplateWanted, signal: AbortSignal): Promise<Template | undefined> {
    const { store, keys, log, maxBytes } = this.#deps;
    if (maxBytes === 0 || !keys.areSupported) return undefined;
    try {
      const { key } = await keys.of(wanted, signal);
      const template = await store.find(key);
      if (template === undefined || (await this.#failures.isDistrusted(key))) return undefined;
      return await this.#verified(template, signal);
    } catch (error) {
      if (signal.aborted || !(error instanceof BangerError)) throw error;
      log.warn({ err: error }, 'could not look for a template');
      return undefined;
    }
  }

  /** @throws {BangerError} `unsupported`: by the settings, or by the VMM */
  assertSupported(): void {
    const { keys, maxBytes } = this.#deps;
    if (maxBytes === 0) {
      throw new BangerError('unsupported', 'templates are turned off', {
        hint: 'set max_size in [templates] of config.toml to more than 0',
      });
    }
    keys.assertSupported();
  }

  /**
   * The template, made first where there is none. Callers that want the same one share the work. Earlier failures of it are
   * forgiven: somebody asked for it.
   * @throws {BangerError} `unsupported`, `limit_exceeded` (larger than all templates may be), what a boot throws
   */
  async ensure(wanted: TemplateWanted, operation: OperationHandle): Promise<EnsuredTemplate> {
    this.assertSupported();
    const { keys } = this.#deps;
    await this.#failures.forgive((await keys.of(wanted, operation.signal)).key);
    return await this.#ensure(wanted, operation);
  }

  /** Makes it when there is time; what goes wrong is logged, and the next boot tries again. */
  makeLater(wanted: TemplateWanted): void {
    const { keys, log, maxBytes } = this.#deps;
    if (maxBytes === 0 || !keys.areSupported) return;
    const name = JSON.stringify([wanted.image.record.id, wanted.vcpus, wanted.memoryMib, wanted.platform]);
    if (this.#queued.has(name) || (this.#makingFailures.get(name) ?? 0) >= MAX_MAKING_FAILURES) return;
    this.#queued.add(name);
    this.#later(async (signal) => {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(MAKE_TIMEOUT_MS)]);
      const unwatched = { signal: limited, progress: () => undefined, about: () => undefined };
      try {
        const { key } = await keys.of(wanted, limited);
        if (await this.#failures.isDistrusted(key))
          log.warn({ key }, 'templates of this kind failed too often today');
        else await this.#ensure(wanted, unwatched);
      } catch (error) {
        if (signal.aborted) return;
        const isTooLarge = error instanceof BangerError && error.code === 'limit_exceeded';
        const failures = isTooLarge ? MAX_MAKING_FAILURES : (this.#makingFailures.get(name) ?? 0) + 1;
        this.#makingFailures.set(name, failures);
        log.warn({ err: error }, 'could not make a template');
      } finally {
        this.#queued.delete(name);
      }
    });
  }

  /** A start from it came to nothing: counted, and after the second one the template is thrown away. */
  async failed(template: Template, error: unknown): Promise<void> {
    if (await this.#failures.note(template, error)) await this.#remove(template);
  }

  async markUsed({ key }: Template): Promise<void> {
    await this.#deps.store.markUsed(key);
  }

  /** Last used first. */
  async list(): Promise<readonly ListedTemplate[]> {
    const { store } = this.#deps;
    const listed = await Promise.all((await store.list()).map((template) => this.#listed(template)));
    return listed.sort((a, b) => (a.usedAt < b.usedAt ? 1 : -1));
  }

  /** In the background: removes those that nothing can start from any more, and what is beyond the limit. */
  collectLater(isUseful: (template: Template, signal: AbortSignal) => Promise<boolean>): void {
    this.#later((signal) => this.collect(isUseful, signal));
  }

  async collect(
    isUseful: (template: Template, signal: AbortSignal) => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<void> {
    const { store, log } = this.#deps;
    for (const template of await store.list()) {
      signal.throwIfAborted();
      if (await isUseful(template, signal)) continue;
      const { key, manifest } = template;
      log.info(
        { key, image: manifest.image.name },
        'removing a template that nothing can start from any more',
      );
      await this.#remove(template);
    }
    await this.#evict(await this.list());
  }

  /** Ends what is being made, and waits until nothing of it is left. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#queue;
  }

  #later(work: (signal: AbortSignal) => Promise<void>): void {
    const { signal } = this.#stop;
    this.#queue = this.#queue
      .then(async () => {
        if (!signal.aborted) await work(signal);
      })
      .catch((error: unknown) => {
        if (!signal.aborted) this.#deps.log.warn({ err: error }, 'could not look after templates');
      });
  }

  async #ensure(wanted: TemplateWanted, operation: OperationHandle): Promise<EnsuredTemplate> {
    const { signal, progress } = operation;
    const known = await this.find(wanted, signal);
    if (known !== undefined) return { template: await this.#listed(known), existed: true };
    const { key } = await this.#deps.keys.of(wanted, signal);
    const made = await this.#flights.join(key, { signal, onProgress: progress }, (ownSignal, onProgress) =>
      this.#make(wanted, ownSignal, onProgress),
    );
    return { template: await this.#listed(made), existed: false };
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
    for (const file of unverifiedFiles(made)) await verifier.trust(file);
    const { allocatedBytes } = await store.use(facts.key);
    const durationMs = Math.round(performance.now() - began);
    log.info(
      { key: facts.key, image: wanted.image.record.name, allocatedBytes, durationMs },
      'made a template',
    );
    await this.#evictAllBut(facts.key);
    return made;
  }

  async #verified(template: Template, signal: AbortSignal): Promise<Template | undefined> {
    const { verifier, log } = this.#deps;
    try {
      await Promise.all(unverifiedFiles(template).map((file) => verifier.verify(file, signal)));
      return template;
    } catch (error) {
      if (!(error instanceof BangerError) || error.code !== 'verify_failed') throw error;
      const { key } = template;
      log.warn({ key, reason: errorText(error) }, 'a template is damaged; it will be made again');
      await this.#remove(template);
      return undefined;
    }
  }

  /** The one just made goes only when it alone is too large. */
  async #evictAllBut(justMade: string): Promise<void> {
    const byUse = await this.list();
    const isIt = ({ key }: Template): boolean => key === justMade;
    const [evicted] = await this.#evict([
      ...byUse.filter(isIt),
      ...byUse.filter((template) => !isIt(template)),
    ]);
    if (evicted?.key !== justMade) return;
    const { allocatedBytes } = evicted;
    const { maxBytes } = this.#deps;
    const sizes = `it needs ${formatSize(allocatedBytes)}, and max_size is ${formatSize(maxBytes)}`;
    throw new BangerError('limit_exceeded', `the template is too large: ${sizes}`, {
      hint: 'raise max_size in [templates] of config.toml, or make it smaller with --memory',
    });
  }

  /** From the first that does not fit on they go; one too large for all of the space does not count. @returns those */
  async #evict(inOrder: readonly ListedTemplate[]): Promise<readonly ListedTemplate[]> {
    const { maxBytes, log } = this.#deps;
    const evicted: ListedTemplate[] = [];
    let total = 0;
    for (const template of inOrder) {
      const { key, allocatedBytes } = template;
      if (allocatedBytes <= maxBytes) total += allocatedBytes;
      if (allocatedBytes <= maxBytes && total <= maxBytes) continue;
      log.info({ key, allocatedBytes, maxBytes }, 'removing a template to keep within max_size');
      await this.#remove(template);
      evicted.push(template);
    }
    return evicted;
  }

  async #remove(template: Template): Promise<void> {
    const { store, verifier } = this.#deps;
    await store.remove(template.key);
    for (const file of unverifiedFiles(template)) verifier.forget(file);
  }

  async #listed(template: Template): Promise<ListedTemplate> {
    return { ...template, ...(await this.#deps.store.use(template.key)) };
  }
}
