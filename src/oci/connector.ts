/**
 * Where connections come from: plain ones, TLS, TLS through a proxy. Node's modules for them are loaded when the first
 * request is made: a start of the daemon does not wait for what few of its lives need.
 */

import type { ClientRequest, RequestOptions } from 'node:http';
import type { SecureContext } from 'node:tls';

export interface ConnectorOptions {
  /** Of a proxy's answer to CONNECT, too: a request has no socket to destroy until then. */
  readonly connectMs: number;
  /** Where HTTPS_PROXY and NO_PROXY are looked up. Plain http, which is loopback, uses no proxy. */
  readonly env: NodeJS.ProcessEnv;
  /** PEM certificates of authorities to trust besides Node's and the host's. */
  readonly authorities?: readonly string[];
}

/** Begins a request without sending anything. */
export type StartRequest = (url: URL, options: RequestOptions) => ClientRequest;

/** What begins requests to addresses of a scheme. */
export type Connector = (scheme: 'http:' | 'https:') => Promise<StartRequest>;

/** Every request has a connection of its own: a reused one may be closed by the server at any moment. */
export function createConnector(options: ConnectorOptions): Connector {
  let secure: Promise<StartRequest> | undefined;
  return async (scheme) => {
    if (scheme === 'https:') return await (secure ??= startSecure(options));
    const { request } = await import('node:http');
    return (url, settings) => request(url, { ...settings, agent: false });
  };
}

async function startSecure({ env, connectMs, authorities = [] }: ConnectorOptions): Promise<StartRequest> {
  const { Agent, request } = await import('node:https');
  const secureContext = await secureContextWith(authorities);
  const agent = new Agent({ proxyEnv: env, timeout: connectMs, secureContext });
  return (url, settings) => request(url, { ...settings, agent });
}

let hostContext: SecureContext | undefined;

/** Private registries are often signed by an authority only the host's store knows, so that store counts as well. */
async function secureContextWith(authorities: readonly string[]): Promise<SecureContext> {
  const { createSecureContext, getCACertificates } = await import('node:tls');
  const make = (): SecureContext =>
    createSecureContext({
      ca: [...new Set([...getCACertificates('default'), ...getCACertificates('system'), ...authorities])],
    });
  if (authorities.length > 0) return make();
  return (hostContext ??= make());
}
