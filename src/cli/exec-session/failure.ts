/** What a user is told when a stream ends with CLOSE *failed*. */

import { type CloseFailure, closeWord, describeFailure } from '../../core/channel/close.ts';
import { BangerError, type ErrorCode } from '../../core/errors.ts';

const CODES: Readonly<Record<string, ErrorCode>> = {
  ticket: 'unavailable',
  protocol: 'channel_broken',
  channel: 'channel_broken',
};

export function failureOf(failure: CloseFailure): BangerError {
  return new BangerError(CODES[closeWord(failure)] ?? 'guest_failed', describeFailure(failure));
}
