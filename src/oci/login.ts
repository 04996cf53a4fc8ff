/**
 * Logging in to a registry, when it asks for it: the distribution project's token authentication
 * (https://distribution.github.io/distribution/spec/auth/token/ and …/oauth/), or HTTP's basic one.
 */

import { BangerError } from '../core/errors.ts';
import { parseChallenges } from './challenge.ts';
import type { Credential, CredentialLookup, CredentialSource } from './credentials.ts';
import type { Exchange, HttpRequest, HttpResponse } from './http.ts';
import { MAX_ANSWER_BYTES, type RegistryLimits } from './limits.ts';
import type { Repository } from './reference.ts';
import { nextUrl, readJson, sendPatiently } from './sending.ts';

export type Access = 'pull' | 'push';

const CLIENT_ID = 'banger';
/** What fits into a header: visible ASCII. */
const TOKEN = /^[\x21-\x7e]{1,12288}$/;

export interface LoginOptions {
  readonly repository: Repository;
  readonly access: Access;
  readonly credentials: CredentialSource;
  readonly exchange: Exchange;
  readonly limits: RegistryLimits;
}

export class Login {
  readonly #options: LoginOptions;
  #header: string | undefined;
  #lookup: CredentialLookup | undefined;

  constructor(options: LoginOptions) {
    this.#options = options;
  }

  /** Value of `Authorization` for requests to the registry itself, and to nothing else. */
  get header(): string | undefined {
    return this.#header;
  }

  /**
   * Makes a new `header` out of what the registry asked for with its 401.
   * @throws {BangerError} `permission` (no login, or not a good one), `unavailable`, `timeout`, `limit_exceeded`
   */
  async renew(wwwAuthenticate: string | undefined, signal: AbortSignal): Promise<void> {
    const { registry } = this.#options.repository;
    const challenges = parseChallenges(wwwAuthenticate ?? '');
    this.#lookup ??= await this.#options.credentials.lookup(registry, signal);
    const { credential } = this.#lookup;
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer !== undefined) {
      this.#header = `Bearer ${await this.#token(bearer.parameters, credential, signal)}`;
      return;
    }
    if (!challenges.some(({ scheme }) => scheme === 'basic')) {
      throw new BangerError('unavailable', `${registry} wants a kind of login that banger does not know`);
    }
    if (credential?.kind !== 'password') throw this.refused();
    this.#header = basic(credential.user, credential.password);
  }

  /** The error for a request that was refused with the login we have, or for want of one. */
  refused(): BangerError {
    const { repository, access, credentials } = this.#options;
    const { credential, problem } = this.#lookup ?? { credential: undefined, problem: undefined };
    const how =
      credential === undefined
        ? `no login for it in ${credentials.file}`
        : `with the login in ${credentials.file}`;
    const why = problem === undefined ? how : `${how}; ${problem}`;
    const place = `${repository.registry}/${repository.name}`;
    return new BangerError(
      'permission',
      `${repository.registry} does not let us ${access} ${place} (${why})`,
      {
        hint: `check the name, and log in: docker login ${repository.registry}, or skopeo login --authfile ${credentials.file} ${repository.registry}`,
      },
    );
  }

  async #token(
    parameters: ReadonlyMap<string, string>,
    credential: Credential | undefined,
    signal: AbortSignal,
  ): Promise<string> {
    const { exchange, limits, repository } = this.#options;
    const realm = nextUrl(parameters.get('realm'), new URL(repository.origin));
    const response = await sendPatiently(
      exchange,
      this.#tokenRequest(realm, parameters, credential, signal),
      limits,
    );
    if (response.status !== 200) throw this.#tokenFailure(realm, response);
    const answer = await readJson(response, `the token answer of ${realm.host}`, MAX_ANSWER_BYTES);
    const { token, access_token } = (answer ?? {}) as Record<string, unknown>;
    const chosen = typeof token === 'string' && token !== '' ? token : access_token;
    if (typeof chosen === 'string' && TOKEN.test(chosen)) return chosen;
    throw new BangerError('unavailable', `${realm.host} gave no usable token for ${repository.registry}`);
  }

  #tokenRequest(
    realm: URL,
    parameters: ReadonlyMap<string, string>,
    credential: Credential | undefined,
    signal: AbortSignal,
  ): HttpRequest {
    const { repository, access } = this.#options;
    // Not the scope of the challenge: we know what we are about to do, and some registries ask for less at first.
    const scope = `repository:${repository.name}:${access === 'push' ? 'pull,push' : 'pull'}`;
    const service = parameters.get('service');
    const fields = { ...(service === undefined ? {} : { service }), scope, client_id: CLIENT_ID };
    const accept = { accept: 'application/json', 'accept-encoding': 'identity' };
    if (credential?.kind === 'identity-token') {
      const form = new URLSearchParams({
        ...fields,
        grant_type: 'refresh_token',
        refresh_token: credential.token,
      });
      const type = { 'content-type': 'application/x-www-form-urlencoded' };
      const body = Buffer.from(form.toString());
      return { method: 'POST', url: realm, headers: { ...accept, ...type }, body, signal };
    }
    const url = new URL(realm);
    for (const [name, value] of Object.entries(fields)) url.searchParams.set(name, value);
    const headers =
      credential === undefined
        ? accept
        : { ...accept, authorization: basic(credential.user, credential.password) };
    return { method: 'GET', url, headers, signal };
  }

  #tokenFailure(realm: URL, response: HttpResponse): BangerError {
    response.close();
    if (response.status === 401 || response.status === 403) return this.refused();
    return new BangerError(
      'unavailable',
      `${realm.host} gave no token for ${this.#options.repository.registry} (HTTP ${response.status})`,
    );
  }
}

/** RFC 7617. */
function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}
