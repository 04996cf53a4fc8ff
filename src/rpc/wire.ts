/** The JSON-RPC 2.0 messages the two sides exchange, and how errors cross. Nothing here trusts the peer. */

import type { RpcErrorData } from '../api/contract.ts';
import { BangerError, ERROR_CODES, type ErrorCode, isErrorCode } from '../core/errors.ts';

export const CANCEL_METHOD = '$/cancelRequest';
export const PROGRESS_METHOD = '$/progress';

/** Largest request, bytes of JSON. Also the client's own check, which can say it better. */
export const MAX_REQUEST_BYTES = 4 * 1024 * 1024;
/** Largest answer: a plan of a huge repository lists every path. */
export const MAX_RESPONSE_BYTES = 64 * 1024 * 1024;

export interface WireError {
  readonly code: number;
  readonly message: string;
  readonly data?: RpcErrorData;
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function toWireError(error: BangerError, operationId: string | undefined): WireError {
  const id = error.operationId ?? operationId;
  return {
    code: ERROR_CODES[error.code].rpcCode,
    message: error.message,
    data: {
      code: error.code,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      ...(id === undefined ? {} : { operationId: id }),
    },
  };
}

function codeOf(rpcCode: unknown, named: unknown): ErrorCode {
  if (isErrorCode(named)) return named;
  for (const [code, facts] of Object.entries(ERROR_CODES)) {
    if (facts.rpcCode === rpcCode && isErrorCode(code)) return code;
  }
  return 'internal';
}

/** The error a peer sent, whatever it looks like. */
export function fromWireError(value: unknown): BangerError {
  if (!isRecord(value))
    return new BangerError('internal', 'the daemon reported an error without saying which');
  const data = isRecord(value['data']) ? value['data'] : {};
  const { message } = value;
  const { hint, operationId } = data;
  return new BangerError(
    codeOf(value['code'], data['code']),
    typeof message === 'string' ? message : 'the daemon reported an error without a message',
    {
      ...(typeof hint === 'string' ? { hint } : {}),
      ...(typeof operationId === 'string' ? { operationId } : {}),
    },
  );
}
