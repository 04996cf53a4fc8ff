/** The one place where vscode-jsonrpc's cancellation becomes an AbortSignal, and where a request's id is learned. */

import {
  type CancellationStrategy,
  CancellationSenderStrategy,
  CancellationToken,
  CancellationTokenSource,
  type RequestMessage,
} from 'vscode-jsonrpc/node';
import { BangerError } from '../core/errors.ts';

export interface CancellableRequest {
  readonly id: string | number;
  readonly abort: AbortController;
}

/**
 * vscode-jsonrpc hands a handler the token and nothing else, and makes the token right before it calls the handler: so the
 * token is the key to the rest.
 */
export class RequestTokens {
  readonly #requests = new WeakMap<CancellationToken, CancellableRequest>();

  /** For `createMessageConnection`. */
  readonly strategy: CancellationStrategy = {
    sender: CancellationSenderStrategy.Message,
    receiver: {
      kind: 'request',
      createCancellationTokenSource: (request: RequestMessage) => this.#begin(request),
    },
  };

  #begin(request: RequestMessage): CancellationTokenSource {
    const source = new CancellationTokenSource();
    if (request.id !== null) {
      this.#requests.set(source.token, { id: request.id, abort: new AbortController() });
    }
    return source;
  }

  /** The request a token belongs to; its `abort` fires when the client cancels. */
  take(token: CancellationToken): CancellableRequest | undefined {
    const request = this.#requests.get(token);
    if (request === undefined) return undefined;
    const onCancelled = () => request.abort.abort(new BangerError('cancelled', 'cancelled'));
    if (token.isCancellationRequested) onCancelled();
    else token.onCancellationRequested(onCancelled);
    return request;
  }
}
