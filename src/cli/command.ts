/** How a command is declared, and how a declaration becomes a stricli command. */

import { buildCommand, type Command } from '@stricli/core';
import { BangerError, unreachable } from '../core/errors.ts';
import type { CliContext } from './cli-context.ts';
import type { Completer, FlagSpec, FlagSpecs, FlagValues } from './flags.ts';
import { commandHelp } from './help.ts';
import { failureStatus, reportError } from './output/errors.ts';

export interface ArgumentSpec {
  /** Upper case; `...` is added where several are taken. */
  readonly placeholder: string;
  readonly brief: string;
  readonly minimum: number;
  /** Infinity: any number. */
  readonly maximum: number;
  readonly complete?: Completer;
  /** Completed by the shell, as a path of the host, where `complete` has nothing to offer. */
  readonly isPath?: true;
  /** One more, which may be left out unless it is required. Only behind exactly one. */
  readonly second?: Pick<ArgumentSpec, 'placeholder' | 'brief' | 'complete'> & { readonly required?: true };
}

export interface Example {
  readonly line: string;
  readonly brief: string;
}

/** What a file under `commands/` exports as `command`. */
export interface CommandSpec<F extends FlagSpecs = FlagSpecs> {
  /** Full sentences: what it does, what it leaves behind, what it exits with. */
  readonly description: string;
  readonly examples: readonly Example[];
  readonly flags: F;
  readonly argument?: ArgumentSpec;
  /** Whether `-- COMMAND...` may follow, and what it means. */
  readonly commandBrief?: string;
  /** Exit status when banger itself fails, where it must be told apart from a status that is the guest program's. */
  readonly ownFailureStatus?: (context: CliContext) => number | undefined;
  /** Resolves with the exit status; nothing is 0. */
  readonly run: (
    context: CliContext,
    flags: FlagValues<F>,
    args: readonly string[],
  ) => Promise<number | void>;
}

/** Keeps the flags' types while the declaration is checked. */
export function defineCommand<const F extends FlagSpecs>(spec: CommandSpec<F>): CommandSpec {
  return spec as unknown as CommandSpec;
}

/** One argument list shape each, so that all commands word them alike. */
export function oneArgument(placeholder: string, brief: string, complete?: Completer): ArgumentSpec {
  return { placeholder, brief, minimum: 1, maximum: 1, ...(complete && { complete }) };
}

export function optionalArgument(placeholder: string, brief: string, complete?: Completer): ArgumentSpec {
  return { placeholder, brief, minimum: 0, maximum: 1, ...(complete && { complete }) };
}

export function optionalPath(brief: string): ArgumentSpec {
  return { placeholder: 'PATH', brief, minimum: 0, maximum: 1, isPath: true };
}

export function manyArguments(placeholder: string, brief: string, complete?: Completer): ArgumentSpec {
  return { placeholder, brief, minimum: 1, maximum: Number.POSITIVE_INFINITY, ...(complete && { complete }) };
}

/** The stricli command of a declaration; `brief` comes from the command tree. */
export function toStricli(brief: string, spec: CommandSpec): Command<CliContext> {
  const base = buildCommand<Record<string, unknown>, string[], CliContext>({
    docs: { brief, fullDescription: spec.description },
    parameters: {
      // stricli types flags by their values; here the values' types travel in FlagSpec instead.
      flags: stricliFlags(spec.flags) as never,
      aliases: lettersOf(spec.flags),
      positional: stricliPositional(spec.argument) as never,
    },
    async func(flags, ...args) {
      await runCommand(this, spec, flags, args);
    },
  });
  return { ...base, formatHelp: (args) => commandHelp(args.prefix, brief, spec, args) };
}

async function runCommand(
  context: CliContext,
  spec: CommandSpec,
  flags: Readonly<Record<string, unknown>>,
  args: readonly string[],
): Promise<void> {
  try {
    if (context.commandArgv?.length === 0) {
      throw new BangerError('usage', 'a command is missing after "--"');
    }
    const status = await spec.run(context, withToggles(spec.flags, flags), args);
    context.process.exitCode = status ?? 0;
  } catch (error) {
    reportError(context, error, flags['json'] === true);
    context.process.exitCode = failureStatus(error, spec.ownFailureStatus?.(context));
  }
}

/** A toggle that was not given is false. */
function withToggles(specs: FlagSpecs, flags: Readonly<Record<string, unknown>>): FlagValues<FlagSpecs> {
  const off = Object.entries(specs).flatMap(([name, spec]) =>
    spec.kind === 'toggle' && flags[name] === undefined ? [[name, false] as const] : [],
  );
  return { ...flags, ...Object.fromEntries(off) };
}

function stricliFlags(specs: FlagSpecs): Record<string, unknown> {
  // No prototype: stricli looks names up with `flags[name]`, and `--constructor` is not a flag.
  const flags: Record<string, unknown> = Object.create(null);
  for (const [name, spec] of Object.entries(specs)) flags[name] = stricliFlag(spec);
  return flags;
}

function stricliFlag(spec: FlagSpec<unknown>): Record<string, unknown> {
  const common = { brief: spec.brief, optional: true };
  switch (spec.kind) {
    case 'toggle':
      // Optional without a default, because stricli refuses a flag `no-x` beside a flag `x` that has one.
      return { kind: 'boolean', withNegated: false, ...common };
    case 'choice':
      return { kind: 'enum', values: spec.choices, ...common };
    case 'value':
      return { kind: 'parsed', parse: spec.parse, ...common, ...completions(spec.complete) };
    case 'list':
      return {
        kind: 'parsed',
        parse: spec.parse,
        brief: spec.brief,
        variadic: true,
        default: [],
        ...completions(spec.complete),
      };
    default:
      return unreachable(spec.kind);
  }
}

function completions(complete: Completer | undefined): object {
  if (complete === undefined) return {};
  return {
    proposeCompletions(this: CliContext, partial: string) {
      return complete(this, partial);
    },
  };
}

function lettersOf(specs: FlagSpecs): Record<string, string> {
  const letters: Record<string, string> = Object.create(null);
  for (const [name, spec] of Object.entries(specs)) {
    if (spec.letter !== undefined) letters[spec.letter] = name;
  }
  return letters;
}

function stricliPositional(argument: ArgumentSpec | undefined): object {
  if (argument === undefined) return { kind: 'tuple', parameters: [] };
  const { second } = argument;
  if (second !== undefined) {
    const optional = second.required !== true;
    return { kind: 'tuple', parameters: [parameterOf(argument), { ...parameterOf(second), optional }] };
  }
  return {
    kind: 'array',
    minimum: argument.minimum,
    ...(Number.isFinite(argument.maximum) && { maximum: argument.maximum }),
    parameter: parameterOf(argument),
  };
}

function parameterOf(argument: Pick<ArgumentSpec, 'placeholder' | 'brief' | 'complete'>): object {
  return {
    brief: argument.brief,
    placeholder: argument.placeholder,
    parse: refuseFlagLike,
    ...completions(argument.complete),
  };
}

/** Before `--` a word with a dash that stricli did not take for a flag is a mistyped flag. */
function refuseFlagLike(this: CliContext, value: string): string {
  if (value === '') throw new BangerError('usage', 'an argument is empty');
  if (!value.startsWith('-') || value === '-' || this.behindDashes.includes(value)) return value;
  const withoutValue = /^(--[a-z-]+)=$/.exec(value)?.[1];
  if (withoutValue !== undefined) throw new BangerError('usage', `${withoutValue} needs a value`);
  const joined = /^(-[a-zA-Z])([^-].*)$/.exec(value);
  throw new BangerError('usage', `unknown flag ${value}`, {
    ...(joined !== null && { hint: `put a space between: ${joined[1]} ${joined[2]}` }),
  });
}
