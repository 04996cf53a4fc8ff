/** How a failure looks to a person and to a program. */

import { BangerError, ERROR_CODES, errorText } from '../../core/errors.ts';
import type { CliIo } from '../cli-context.ts';
import { styleFor } from './style.ts';

/** The shape of an error with `--json`: one line on stderr. */
export interface JsonError {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly hint?: string;
    readonly operationId?: string;
  };
}

/** Prints `banger: <message>`, the hint, and the operation id that names the failure in the daemon's log. */
export function reportError(io: Pick<CliIo, 'stderr' | 'env'>, error: unknown, json: boolean): void {
  const known = asBangerError(error);
  if (json) {
    io.stderr.write(`${JSON.stringify(jsonError(known))}\n`);
    return;
  }
  const style = styleFor(io.stderr, io.env);
  const hint = known.hint === undefined ? '' : `${harmless(known.hint)}\n`;
  const operation =
    known.operationId === undefined ? '' : `${style.dim(`(operation ${known.operationId})`)}\n`;
  io.stderr.write(`${style.red('banger:')} ${harmless(known.message)}\n${hint}${operation}`);
  if (known.code === 'internal' && io.env['BANGER_DEBUG'] === '1' && error instanceof Error) {
    io.stderr.write(`${error.stack ?? ''}\n`);
  }
}

/** A message may quote what others wrote. Of what a terminal would obey only ends of lines and tabs are left. */
function harmless(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, '?');
}

/** Usage errors and cancelling keep their status; everything else is `own`, where a command has one. */
export function failureStatus(error: unknown, own: number | undefined): number {
  const code = asBangerError(error).code;
  if (code === 'usage' || code === 'cancelled') return ERROR_CODES[code].exitStatus;
  return own ?? ERROR_CODES[code].exitStatus;
}

export function jsonError(error: BangerError): JsonError {
  return {
    error: {
      code: error.code,
      message: error.message,
      ...(error.hint !== undefined && { hint: error.hint }),
      ...(error.operationId !== undefined && { operationId: error.operationId }),
    },
  };
}

/** Anything else that is thrown is a bug of ours: say so, and how to see where. */
export function asBangerError(error: unknown): BangerError {
  if (error instanceof BangerError) return error;
  return new BangerError('internal', `internal error: ${errorText(error)}`, {
    hint: 'this is a bug in banger; BANGER_DEBUG=1 shows where it happened',
    cause: error,
  });
}
