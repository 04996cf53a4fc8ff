/** One action on several VMs: at once, reported in the order given, a bad reference not stopping the others. */

import type { CliClient, CliContext } from './cli-context.ts';
import { type LongWork, withProgress } from './long-call.ts';
import { asBangerError, jsonError, reportError } from './output/errors.ts';
import { printJson } from './output/json.ts';
import { withClient } from './with-client.ts';

/** The daemon has its own limits; this one keeps a hundred references from becoming a hundred boots at once. */
const AT_ONCE = 8;

export interface ManyOptions<T> {
  /** For the progress line: "stopping". */
  readonly verb: string;
  readonly refs: readonly string[];
  readonly json: boolean;
  /** Of what a reference means. Default: of VMs. */
  readonly find?: (client: CliClient, ref: string, signal: AbortSignal) => Promise<{ readonly id: string }>;
  /** Default: VMs. */
  readonly things?: string;
  /** `ref` is the VM's id where several were given, else what the user wrote. */
  readonly act: (client: CliClient, ref: string, work: LongWork) => Promise<T>;
  /** For people: what is printed for the ones that went well; `refs` as the user wrote them. */
  readonly print: (results: readonly T[], refs: readonly string[]) => string;
}

type Outcome<T> =
  | { readonly ref: string; readonly value: T }
  | { readonly ref: string; readonly error: unknown };

/** @returns the exit status: 1 when any failed */
export async function actOnMany<T>(context: CliContext, options: ManyOptions<T>): Promise<number> {
  const outcomes = await withClient(context, (client) =>
    withProgress(context, (work) => runAll(client, options, work)),
  );
  report(context, options, outcomes);
  const failed = outcomes.filter((outcome) => 'error' in outcome);
  if (failed.some(({ error }) => asBangerError(error).code === 'cancelled')) return 130;
  return failed.length > 0 ? 1 : 0;
}

async function runAll<T>(client: CliClient, options: ManyOptions<T>, work: LongWork): Promise<Outcome<T>[]> {
  const refs = [...new Set(options.refs)];
  const [only] = refs;
  if (refs.length === 1 && only !== undefined) {
    return [await settle(only, () => options.act(client, only, work))];
  }
  const find =
    options.find ??
    ((of: CliClient, ref: string, signal: AbortSignal) => of.call('vm.show', { ref }, { signal }));
  const targets = await resolveAll(refs, (ref) => find(client, ref, work.signal));
  let finished = 0;
  const tell = () =>
    work.onProgress({
      step: options.verb,
      text: `${options.verb} ${targets.length} ${options.things ?? 'VMs'}`,
      done: finished,
      total: targets.length,
      unit: 'items',
    });
  tell();
  // Each VM's own steps would overwrite each other's: only how many are done is shown.
  const quiet: LongWork = { ...work, onProgress: () => undefined };
  return await mapAtMost(AT_ONCE, targets, async (target) => {
    const outcome =
      'error' in target
        ? target
        : await settle(target.ref, () => options.act(client, target.value.id, quiet));
    finished += 1;
    tell();
    return outcome;
  });
}

/** Two references may mean one thing: the ids tell, and the first reference stays. */
async function resolveAll(
  refs: readonly string[],
  find: (ref: string) => Promise<{ readonly id: string }>,
): Promise<Outcome<{ readonly id: string }>[]> {
  const found = await mapAtMost(AT_ONCE, refs, (ref) => settle(ref, () => find(ref)));
  const seen = new Set<string>();
  return found.filter((outcome) => {
    if ('error' in outcome) return true;
    if (seen.has(outcome.value.id)) return false;
    seen.add(outcome.value.id);
    return true;
  });
}

async function settle<T>(ref: string, work: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { ref, value: await work() };
  } catch (error) {
    return { ref, error };
  }
}

function report<T>(context: CliContext, options: ManyOptions<T>, outcomes: readonly Outcome<T>[]): void {
  if (options.json) {
    printJson(
      context.stdout,
      outcomes.map((outcome) =>
        'error' in outcome
          ? { ref: outcome.ref, ok: false, ...jsonError(asBangerError(outcome.error)) }
          : { ref: outcome.ref, ok: true, result: outcome.value },
      ),
    );
  } else {
    const good = outcomes.flatMap((outcome) => ('error' in outcome ? [] : [outcome]));
    const values = good.map(({ value }) => value);
    const refs = good.map(({ ref }) => ref);
    if (good.length > 0) context.stdout.write(options.print(values, refs));
  }
  for (const outcome of outcomes) {
    if ('error' in outcome) reportError(context, outcome.error, options.json);
  }
}

/** Results in the order of the items, at most `limit` running at a time. `work` must not throw. */
async function mapAtMost<A, B>(
  limit: number,
  items: readonly A[],
  work: (item: A) => Promise<B>,
): Promise<B[]> {
  const results: B[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index] as A);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
