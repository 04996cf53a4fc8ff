/** stricli's texts in banger's words: usage errors begin with `banger:`, name the near miss, and end with what to run. */

import {
  AliasNotFoundError,
  type ApplicationText,
  ArgumentParseError,
  EnumValidationError,
  FlagNotFoundError,
  text_en,
  UnexpectedFlagError,
  UnexpectedPositionalError,
  UnsatisfiedFlagError,
  UnsatisfiedPositionalError,
} from '@stricli/core';
import { BangerError, errorText } from '../core/errors.ts';
import { asBangerError, jsonError } from './output/errors.ts';

interface Usage {
  readonly message: string;
  readonly hint?: string;
}

export interface UsageTextOptions {
  /** The words of the command that was recognised, `banger` first. */
  readonly words: readonly string[];
  readonly json: boolean;
  /** Whether the command takes `-- COMMAND`. */
  readonly takesCommand: boolean;
}

export function usageText(options: UsageTextOptions): ApplicationText {
  const name = options.words.join(' ');
  const render = (code: 'usage' | 'internal', { message, hint }: Usage): string => {
    const help = `run "${name} --help"`;
    const lastLine = code === 'usage' ? (hint === undefined ? help : `${hint}\n${help}`) : hint;
    const error = new BangerError(code, message, lastLine === undefined ? {} : { hint: lastLine });
    if (options.json) return JSON.stringify(jsonError(error));
    return `banger: ${error.message}${error.hint === undefined ? '' : `\n${error.hint}`}`;
  };
  const bug = (error: unknown) => {
    const known = asBangerError(error);
    return render('internal', { message: known.message, ...(known.hint && { hint: known.hint }) });
  };
  return {
    ...text_en,
    noCommandRegisteredForInput: ({ input, corrections }) =>
      render('usage', {
        message: `unknown command "${[...options.words.slice(1), input].join(' ')}"`,
        ...didYouMean(
          corrections.map((word) => [...options.words, word.replaceAll('`', '')].join(' ')).map(quoted),
        ),
      }),
    exceptionWhileParsingArguments: (error) => render('usage', explain(error, options)),
    exceptionWhileLoadingCommandFunction: bug,
    exceptionWhileLoadingCommandContext: bug,
    exceptionWhileRunningCommand: bug,
    commandErrorResult: bug,
  };
}

function explain(error: unknown, options: UsageTextOptions): Usage {
  if (error instanceof FlagNotFoundError) {
    return {
      message: `unknown flag --${error.input}`,
      ...didYouMean(error.corrections.map((flag) => `--${flag}`)),
    };
  }
  if (error instanceof AliasNotFoundError) return { message: `unknown flag -${error.input}` };
  if (error instanceof UnsatisfiedFlagError) return { message: `--${error.externalFlagName} needs a value` };
  if (error instanceof UnexpectedFlagError) return { message: `--${error.externalFlagName} was given twice` };
  if (error instanceof EnumValidationError) {
    return {
      message: `--${error.externalFlagName} cannot be "${error.input}"`,
      hint: `it is one of ${error.values.join(', ')}`,
    };
  }
  if (error instanceof UnexpectedPositionalError) {
    return {
      message: `unexpected argument "${error.input}"`,
      ...(options.takesCommand && {
        hint: `put -- before the command: ${options.words.join(' ')} … -- ${error.input}`,
      }),
    };
  }
  if (error instanceof UnsatisfiedPositionalError) return { message: `${error.placeholder} is missing` };
  if (error instanceof ArgumentParseError) return explainValue(error);
  return { message: errorText(error) };
}

function explainValue(error: ArgumentParseError): Usage {
  const cause = error.exception;
  const flag = error.externalFlagNameOrPlaceholder;
  const message = errorText(cause);
  // Upper case is an argument's placeholder, whose parser words the whole message.
  const prefix = flag === flag.toUpperCase() ? '' : `--${flag}: `;
  return {
    message: `${prefix}${message}`,
    ...(cause instanceof BangerError && cause.hint !== undefined && { hint: cause.hint }),
  };
}

function didYouMean(candidates: readonly string[]): { hint?: string } {
  if (candidates.length === 0) return {};
  return { hint: `did you mean ${candidates.join(' or ')}?` };
}

function quoted(text: string): string {
  return `"${text}"`;
}
