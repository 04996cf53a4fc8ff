/** A token server as the distribution project specifies it: what it signs, the real registry accepts. */

import { createPrivateKey, randomUUID, sign, X509Certificate } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Certificate } from './certificate.ts';

export const ISSUER = 'test issuer';
export const SERVICE = 'test registry';

export interface TokenServerSettings {
  readonly certificate: Certificate;
  readonly user: string;
  readonly password: string;
  /** An OAuth2 refresh token it takes. */
  readonly identityToken: string;
  /** Name of the member the token is answered in. */
  readonly member: 'token' | 'access_token';
}

/** Anybody may pull; who is logged in may push. */
export class TokenServer implements AsyncDisposable {
  /** `METHOD scope` of each request, in order. */
  readonly requests: string[] = [];
  readonly #server: Server;
  readonly #settings: TokenServerSettings;

  constructor(settings: TokenServerSettings) {
    this.#settings = settings;
    this.#server = createServer((request, response) => {
      void bodyOf(request).then((body) => {
        const [status, answer] = this.#answer(request, body);
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
      });
    });
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve);
    });
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/token`;
  }

  #answer(request: IncomingMessage, body: string): [number, unknown] {
    const { user, password, identityToken, member } = this.#settings;
    const fields =
      request.method === 'POST'
        ? new URLSearchParams(body)
        : new URL(request.url ?? '', 'http://x').searchParams;
    const scope = fields.get('scope') ?? '';
    this.requests.push(`${request.method} ${scope}`);
    const basic = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
    const { authorization } = request.headers;
    const refreshed = request.method === 'POST' && fields.get('refresh_token') === identityToken;
    if (authorization !== undefined && authorization !== basic)
      return [401, { errors: [{ code: 'UNAUTHORIZED' }] }];
    if (request.method === 'POST' && !refreshed) return [401, { errors: [{ code: 'UNAUTHORIZED' }] }];
    if (fields.get('service') !== SERVICE) return [400, {}];
    const [type, name, actions = ''] = scope.split(':');
    const known = authorization === basic || refreshed;
    const allowed = actions.split(',').filter((action) => known || action === 'pull');
    return [200, { [member]: this.#token({ type, name, actions: allowed }), expires_in: 300 }];
  }

  /** https://distribution.github.io/distribution/spec/auth/jwt/ */
  #token(access: unknown): string {
    const { certificate, key } = this.#settings.certificate;
    const x5c = [new X509Certificate(certificate).raw.toString('base64')];
    const now = Math.floor(Date.now() / 1000);
    const times = { iat: now, nbf: now - 60, exp: now + 300 };
    const claims = { iss: ISSUER, sub: 'x', aud: SERVICE, jti: randomUUID(), ...times, access: [access] };
    const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const signed = `${encode({ typ: 'JWT', alg: 'ES256', x5c })}.${encode(claims)}`;
    const options = { key: createPrivateKey(key), dsaEncoding: 'ieee-p1363' } as const;
    return `${signed}.${sign('sha256', Buffer.from(signed), options).toString('base64url')}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
