/** Checks parameters against src/api/schemas.ts and says what is wrong in the caller's words. */

import type { z } from 'zod';
import type { CheckedParamsOf, Method } from '../api/contract.ts';
import { paramsSchemas } from '../api/schemas.ts';
import { BangerError } from '../core/errors.ts';

const MAX_SHOWN_ISSUES = 3;
const MAX_TEXT_CHARACTERS = 200;

/**
 * The parameters with defaults filled in.
 * @throws {BangerError} `usage`, naming the fields
 */
export function validateParams<M extends Method>(method: M, params: unknown): CheckedParamsOf<M> {
  const checked = paramsSchemas[method].safeParse(params ?? {});
  // The table maps each method to its own schema; the compiler cannot carry that through the lookup.
  if (checked.success) return checked.data as CheckedParamsOf<M>;
  const { issues } = checked.error;
  const shown = issues.slice(0, MAX_SHOWN_ISSUES).map(issueText).join('; ');
  const more = issues.length > MAX_SHOWN_ISSUES ? `; and ${issues.length - MAX_SHOWN_ISSUES} more` : '';
  throw new BangerError('usage', `${method}: ${shown}${more}`);
}

function issueText(issue: z.core.$ZodIssue): string {
  const message = issue.message.slice(0, MAX_TEXT_CHARACTERS);
  if (issue.path.length === 0) return message;
  return `${issue.path.map(String).join('.').slice(0, MAX_TEXT_CHARACTERS)}: ${message}`;
}
