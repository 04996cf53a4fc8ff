/** What a registry says went wrong. */

import { BangerError } from '../core/errors.ts';
import type { HttpResponse } from './http.ts';
import { MAX_ANSWER_BYTES } from './limits.ts';
import { readJson } from './sending.ts';

/** OCI distribution specification v1.1, "Error codes", and what the reference implementation adds. */
const CODES: ReadonlySet<unknown> = new Set([
  'BLOB_UNKNOWN',
  'BLOB_UPLOAD_INVALID',
  'BLOB_UPLOAD_UNKNOWN',
  'DIGEST_INVALID',
  'MANIFEST_BLOB_UNKNOWN',
  'MANIFEST_INVALID',
  'MANIFEST_UNKNOWN',
  'MANIFEST_UNVERIFIED',
  'NAME_INVALID',
  'NAME_UNKNOWN',
  'SIZE_INVALID',
  'TAG_INVALID',
  'UNAUTHORIZED',
  'DENIED',
  'UNSUPPORTED',
  'TOOMANYREQUESTS',
  'UNAVAILABLE',
  'UNKNOWN',
]);

/**
 * The codes of the error report in the body, of those that are known: whatever else a registry writes there may repeat
 * what it was sent, the login among it. Ends the response.
 */
export async function reportedCodes(response: HttpResponse): Promise<readonly string[]> {
  try {
    const report = await readJson(response, 'the error report', MAX_ANSWER_BYTES);
    const errors = (report as { errors?: unknown } | null | undefined)?.errors;
    if (!Array.isArray(errors)) return [];
    const codes = errors.map((error) => (error as { code?: unknown } | null)?.code);
    return [...new Set(codes.filter((code): code is string => CODES.has(code)))];
  } catch (error) {
    // The status decides; but who cancelled, or ran out of time, is told so.
    if (error instanceof BangerError && (error.code === 'cancelled' || error.code === 'timeout')) throw error;
    return [];
  } finally {
    response.close();
  }
}
