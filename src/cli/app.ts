/** The stricli application for one command line: only the command it names is loaded. */

import {
  type Application,
  buildApplication,
  buildCommand,
  buildRouteMap,
  type Command,
  help,
  type RouteMap,
  version,
} from '@stricli/core';
import { versionLine } from '../core/buildinfo.ts';
import type { CliContext } from './cli-context.ts';
import { type CommandSpec, toStricli } from './command.ts';
import { groupHelp } from './help.ts';
import { type Group, isGroup, type Leaf, root } from './tree.ts';
import { usageText } from './usage-text.ts';

export const PROGRAM = 'banger';
const VERSION_ROW: readonly [string, string] = ['    --version', 'Print the version and exit'];
const FORMATTING = {
  useAliasInUsageLine: false,
  onlyRequiredInUsageLine: true,
  caseStyle: 'original',
} as const;

/** What counts as a near miss: letters swapped, one wrong, one too many, or up to three left out. */
const NEAR = {
  threshold: 3,
  weights: { insertion: 1, deletion: 3, substitution: 2, transposition: 0 },
} as const;

export interface Resolved {
  /** The words that were recognised, `banger` first, aliases as written. */
  readonly words: readonly string[];
  readonly leaf: Leaf | undefined;
}

/** Follows the words of a command line down the tree, as far as they are known. */
export function resolveWords(argv: readonly string[], tree: Group = root): Resolved {
  const words = [PROGRAM];
  let group = tree;
  for (const word of argv) {
    const entry = ownValue(group.commands, nameOf(group, word));
    if (entry === undefined) break;
    words.push(word);
    if (!isGroup(entry)) return { words, leaf: entry };
    group = entry;
  }
  return { words, leaf: undefined };
}

export interface CliApplication {
  readonly application: Application<CliContext>;
  /** Whether what follows `--` are arguments of the command; else they are a command of their own, or there is no command. */
  readonly takesArgumentsBehindDashes: boolean;
}

export async function buildCliApplication(argv: readonly string[], json: boolean): Promise<CliApplication> {
  const { words, leaf } = resolveWords(argv);
  const known = leaf === undefined ? undefined : { leaf, spec: (await leaf.load()).command };
  const routes = toRouteMap(root, words.slice(1), known);
  const takesCommand = known?.spec.commandBrief !== undefined;
  const takesArgumentsBehindDashes = known !== undefined && !takesCommand;
  const text = usageText({ words, json, takesCommand });
  const application = buildApplication(
    routes,
    {
      name: PROGRAM,
      scanner: {
        ...{ caseStyle: 'original', distanceOptions: NEAR },
        allowArgumentEscapeSequence: takesArgumentsBehindDashes,
      },
      documentation: { caseStyle: 'original', disableAnsiColor: true },
      completion: { includeAliases: false, includeHiddenRoutes: false },
      localization: { text },
    },
    {
      help: help({ brief: 'Print this help and exit', formatting: FORMATTING, defaultForRouteMap: true }),
      version: version({
        brief: 'Print the version and exit',
        alias: false,
        info: { currentVersion: versionLine(PROGRAM) },
      }),
    },
  );
  return { application, takesArgumentsBehindDashes };
}

/** The routes below a group; once the line's command is known, only those that lead to it: the others cost time at each start. */
function toRouteMap(
  group: Group,
  words: readonly string[],
  known: { readonly leaf: Leaf; readonly spec: CommandSpec } | undefined,
): RouteMap<CliContext> {
  const routes: Record<string, RouteMap<CliContext> | Command<CliContext>> = Object.create(null);
  const hidden: Record<string, boolean> = {};
  const wanted = known === undefined ? undefined : nameOf(group, words[0] ?? '');
  for (const [name, entry] of Object.entries(group.commands)) {
    if (wanted !== undefined && name !== wanted) continue;
    if (isGroup(entry)) {
      routes[name] = toRouteMap(entry, words.slice(1), known);
    } else {
      routes[name] = entry === known?.leaf ? toStricli(entry.brief, known.spec) : namedOnly(entry);
      if (entry.hidden) hidden[name] = true;
    }
  }
  return {
    ...buildRouteMap<string, CliContext>({
      routes,
      aliases: Object.assign(Object.create(null), group.aliases) as Record<never, string>,
      docs: { brief: group.brief, fullDescription: group.description, hideRoute: hidden },
    }),
    formatHelp: (style) =>
      groupHelp(
        style.prefix,
        group.brief,
        group.description,
        commandRows(group, []),
        group.examples,
        style,
        group === root ? [VERSION_ROW] : [],
      ),
  };
}

/** A command that this command line does not name is never run: its words and its brief are enough. */
function namedOnly(leaf: Leaf): Command<CliContext> {
  return buildCommand<Record<never, never>, [], CliContext>({
    docs: { brief: leaf.brief },
    parameters: {},
    func: () => {
      throw new Error('a command was run that was not loaded');
    },
  });
}

function commandRows(group: Group, words: readonly string[]): (readonly [string, string])[] {
  return Object.entries(group.commands).flatMap(([name, entry]): (readonly [string, string])[] => {
    const path = [...words, name];
    if (isGroup(entry)) return commandRows(entry, path);
    if (entry.hidden) return [];
    const others = Object.entries(group.aliases ?? {}).filter(([, target]) => target === name);
    const note =
      others.length === 0
        ? ''
        : ` (also: ${others.map(([alias]) => [...words, alias].join(' ')).join(', ')})`;
    return [[path.join(' '), `${entry.brief}${note}`]];
  });
}

/** The command's own name, where the word is another one for it. */
function nameOf(group: Group, word: string): string {
  return ownValue(group.aliases, word) ?? word;
}

function ownValue<T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, key) ? record[key] : undefined;
}
