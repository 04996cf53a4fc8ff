/** Digests as the OCI image specification writes them (descriptor.md, "Digests"): `sha256:<64 lower-case hex digits>`. */

import { createHash } from 'node:crypto';
import { BangerError } from '../core/errors.ts';
import { quoted } from './quoted.ts';

const SHA256 = /^sha256:[0-9a-f]{64}$/;

/** Whether it is a digest this program can check: other algorithms are registered, but no registry needs them. */
export function isDigest(text: string): boolean {
  return SHA256.test(text);
}

/**
 * Returns `text` when it is a digest.
 * @throws {BangerError} `bad_request`
 */
export function parseDigest(text: string): string {
  if (isDigest(text)) return text;
  throw new BangerError('bad_request', `${quoted(text)} is not a digest`, {
    hint: 'a digest is sha256: and 64 lower-case hex digits',
  });
}

/** The digest of these bytes, or of the UTF-8 of a text. */
export function digestOf(data: Uint8Array | string): string {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`;
}
