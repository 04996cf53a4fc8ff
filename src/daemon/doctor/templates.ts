/** Checks of memory templates. They are a cache: what is wrong with one costs a boot, and never a VM. */

import { errorText } from '../../core/errors.ts';
import { counted, formatSize } from '../../core/units.ts';
import { formatDuration } from '../../core/units.ts';
import { frozenPaths } from '../../frozen/manifest.ts';
import { type Template, TemplateStore } from '../../frozen/template-store.ts';
import { sparseDigest } from '../../host/sparse-digest.ts';
import { MAX_FAILURES_A_DAY } from '../services/templates/template-failures.ts';
import { type Check, info, type Outcome, orOk, warning } from './check.ts';
import type { DoctorContext } from './context.ts';
import { fileDigest } from './file-digest.ts';

const TIMEOUT_MS = 15_000;
const DEEP_TIMEOUT_MS = 30 * 60_000;
const DAY_MS = 24 * 60 * 60_000;
const RECENT_MS = 7 * DAY_MS;
const SHORT_KEY = 12;
const HARMLESS = 'nothing: the next VM that would start from it boots, and it is made again';

function storeOf({ paths }: DoctorContext): TemplateStore {
  return new TemplateStore(paths.templatesDir);
}

function nameOf(key: string): string {
  return `template ${key.slice(0, SHORT_KEY)}`;
}

/** One that goes away meanwhile is neither. */
async function inspectAll(store: TemplateStore) {
  const whole: Template[] = [];
  const damaged: { readonly key: string; readonly why: string }[] = [];
  for (const key of await store.keys()) {
    try {
      const template = await store.inspect(key);
      if (template !== undefined) whole.push(template);
    } catch (error) {
      damaged.push({ key, why: errorText(error) });
    }
  }
  return { whole, damaged };
}

const templates: Check<DoctorContext> = {
  id: 'images.templates',
  group: 'images',
  title: 'templates',
  timeoutMs: TIMEOUT_MS,
  run: async (context) => {
    const store = storeOf(context);
    const { templatesMaxBytes } = await context.configOrDefault();
    const { whole, damaged } = await inspectAll(store);
    const problems: Outcome[] = damaged.map(({ key, why }) =>
      warning(`${nameOf(key)}: ${why}`, { fix: HARMLESS }),
    );
    const uses = await Promise.all(whole.map(({ key }) => store.use(key)));
    const bytes = uses.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0);
    const sizes = `${formatSize(bytes)} of ${formatSize(templatesMaxBytes)}`;
    if (bytes > templatesMaxBytes) {
      const found = `${counted(whole.length, 'takes', 'take')} ${sizes} (max_size)`;
      problems.push(
        info(found, { fix: 'the next start of the daemon removes those that were not used for longest' }),
      );
    }
    if (whole.length > 0) return orOk(problems, `${whole.length}, ${sizes}`);
    return orOk(problems, templatesMaxBytes === 0 ? 'turned off (max_size)' : 'none');
  },
};

const failures: Check<DoctorContext> = {
  id: 'images.template-failures',
  group: 'images',
  title: 'starts from templates',
  timeoutMs: TIMEOUT_MS,
  run: async (context) => {
    const now = context.host.now();
    const since = new Date(now - RECENT_MS).toISOString();
    const recent = (await storeOf(context).failures()).filter(({ at }) => at >= since);
    const last = recent.at(-1);
    if (last === undefined) return orOk([], 'none has failed in the last 7 days');
    const ago = formatDuration(Math.max(0, now - Date.parse(last.at)));
    const found = `${recent.length} failed in the last 7 days, and VMs were booted instead; the last ${ago} ago: ${last.reason}`;
    const yesterday = new Date(now - DAY_MS).toISOString();
    const today = recent.filter(({ key, at }) => key === last.key && at >= yesterday).length;
    const fix =
      today >= MAX_FAILURES_A_DAY
        ? `its template is left alone for a day; banger image warm ${last.image} tries it again`
        : 'nothing, if it was once; max_size = 0 in [templates] of config.toml turns templates off';
    return warning(found, { fix });
  },
};

const leftovers: Check<DoctorContext> = {
  id: 'images.template-leftovers',
  group: 'images',
  title: 'leftovers of templates',
  timeoutMs: TIMEOUT_MS,
  run: async (context) => {
    const left = await storeOf(context).leftovers();
    const outcomes = left.map(({ path, kind }) =>
      warning(`${path} was left half ${kind === 'draft' ? 'made' : 'removed'}`, {
        fix: 'the next start of the daemon removes it',
      }),
    );
    return orOk(outcomes, 'none');
  },
};

const digests: Check<DoctorContext> = {
  id: 'images.template-digests',
  group: 'images',
  title: 'digests of templates',
  timeoutMs: DEEP_TIMEOUT_MS,
  deep: true,
  alone: true,
  run: async (context, signal) => {
    const { whole } = await inspectAll(storeOf(context));
    const problems: Outcome[] = [];
    for (const [done, { key, dir }] of whole.entries()) {
      const text = `reading ${dir}`;
      context.progress({ step: 'images.template-digests', text, done, total: whole.length, unit: 'items' });
      const wrong = await changedFile(context, key, signal);
      signal.throwIfAborted();
      if (wrong !== undefined) problems.push(warning(`${nameOf(key)}: ${wrong}`, { fix: HARMLESS }));
    }
    return orOk(
      problems,
      whole.length === 0
        ? 'nothing to read'
        : counted(whole.length, 'is as it was made', 'are as they were made'),
    );
  },
};

/** Undefined too when it went away meanwhile. */
async function changedFile(
  context: DoctorContext,
  key: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const store = storeOf(context);
  const template = await store.inspect(key).catch(() => undefined);
  if (template === undefined) return undefined;
  const { manifest, dir } = template;
  const paths = frozenPaths(dir);
  const sparse = (path: string): Promise<string> => sparseDigest(path, context.runner, signal);
  const files = [
    [paths.memory, manifest.memory.sparseSha256, sparse],
    [paths.rootDisk, manifest.rootDisk.sparseSha256, sparse],
    [paths.state, manifest.state.sha256, (path: string) => fileDigest(path, signal)],
  ] as const;
  for (const [path, expected, digest] of files) {
    const found = await digest(path).catch(errorText);
    if (found === expected || signal.aborted) continue;
    const isThere = (await store.inspect(key).catch(() => undefined)) !== undefined;
    return isThere ? `${path} has changed since it was made` : undefined;
  }
  return undefined;
}

export const TEMPLATE_CHECKS: readonly Check<DoctorContext>[] = [templates, failures, leftovers, digests];
