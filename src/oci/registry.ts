/** One repository of a registry, over the OCI distribution specification v1.1 ("API", "Pull", "Push"). */

import { createHash } from 'node:crypto';
import { BangerError } from '../core/errors.ts';
import type { CredentialSource } from './credentials.ts';
import { sleep, withDeadline } from './deadline.ts';
import { digestOf, isDigest } from './digest.ts';
import {
  ConnectionLost,
  createExchange,
  type Exchange,
  type HttpRequest,
  type HttpResponse,
} from './http.ts';
import {
  DEFAULT_LIMITS,
  MAX_LOST_ATTEMPTS,
  MAX_MANIFEST_BYTES,
  MAX_REDIRECTS,
  type RegistryLimits,
} from './limits.ts';
import { type Access, Login } from './login.ts';
import { reportedCodes } from './reported-codes.ts';
import { formatReference, type Repository } from './reference.ts';
import { nextUrl, readBody, sendPatiently } from './sending.ts';

export interface RegistryOptions {
  readonly repository: Repository;
  /** What tokens are asked for. */
  readonly access: Access;
  readonly credentials: CredentialSource;
  /** HTTPS_PROXY, NO_PROXY. */
  readonly env: NodeJS.ProcessEnv;
  /** Ends what is under way with `cancelled`. */
  readonly signal?: AbortSignal;
  readonly limits?: Partial<RegistryLimits>;
  /** PEM certificates to trust besides Node's and the host's. */
  readonly authorities?: readonly string[];
}

/** What names a blob: descriptor.md of the OCI image specification. */
export interface BlobId {
  readonly digest: string;
  /** Bytes. The caller has checked that it wants that many. */
  readonly size: number;
}

export interface FetchedManifest {
  readonly digest: string;
  /** Of the header `Content-Type`, without parameters, lower case; '' when there is none. */
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export interface ManifestHead {
  /** Undefined where the registry does not say: the header is optional. */
  readonly digest: string | undefined;
  readonly mediaType: string;
}

/** Bytes done so far, of those the operation will move. */
export type OnBytes = (bytes: number) => void;

interface Call {
  readonly method: HttpRequest['method'];
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly onSent?: OnBytes;
}

/**
 * Every method throws BangerErrors: `not_found`, `permission` (with how to log in), `unavailable`, `timeout`,
 * `limit_exceeded`, `verify_failed` (bytes that are not what their digest says), `cancelled`. No message and no cause
 * holds a login, a token or the query of an address.
 */
export class RegistryClient {
  readonly #repository: Repository;
  readonly #limits: RegistryLimits;
  readonly #signal: AbortSignal | undefined;
  readonly #exchange: Exchange;
  readonly #login: Login;

  constructor(options: RegistryOptions) {
    const { repository, access, credentials, env, authorities } = options;
    this.#repository = repository;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#signal = options.signal;
    this.#exchange = createExchange({
      limits: this.#limits,
      env,
      ...(authorities === undefined ? {} : { authorities }),
    });
    const login = { repository, access, credentials, exchange: this.#exchange, limits: this.#limits };
    this.#login = new Login(login);
  }

  /** By digest or by tag. The bytes are those of the digest that is returned. */
  async getManifest(version: string, accept: readonly string[]): Promise<FetchedManifest> {
    const what = `the manifest ${this.#named(version)}`;
    const url = this.#url(`manifests/${version}`);
    return await this.#download(
      { method: 'GET', url, headers: { accept: accept.join(', ') } },
      what,
      this.#limits.requestMs,
      async (response) => {
        const bytes = await readBody(response, what, { maxBytes: MAX_MANIFEST_BYTES });
        const digest = digestOf(bytes);
        const expected = isDigest(version) ? version : announcedDigest(response);
        if (expected !== undefined && expected !== digest) throw mismatch(what, expected, digest);
        return { digest, mediaType: mediaTypeOf(response), bytes };
      },
    );
  }

  /** Undefined when there is none. */
  async headManifest(version: string, accept: readonly string[]): Promise<ManifestHead | undefined> {
    const url = this.#url(`manifests/${version}`);
    const response = await this.#head(
      { method: 'HEAD', url, headers: { accept: accept.join(', ') } },
      `the manifest ${this.#named(version)}`,
    );
    if (response === undefined) return undefined;
    return { digest: announcedDigest(response), mediaType: mediaTypeOf(response) };
  }

  /** Under its digest or a tag, which is moved. The blobs it names must be there. */
  async putManifest(version: string, mediaType: string, bytes: Uint8Array): Promise<void> {
    const what = `the manifest ${this.#named(version)}`;
    const url = this.#url(`manifests/${version}`);
    const headers = { 'content-type': mediaType };
    await withDeadline(this.#signal, this.#limits.requestMs, `sending ${what}`, async (signal) => {
      const response = await this.#call({ method: 'PUT', url, headers, body: bytes }, signal);
      await this.#expect(response, [201], what);
      assertAnnounced(response, what, digestOf(bytes));
    });
  }

  /** Whether it is there, with that many bytes. */
  async hasBlob(blob: BlobId): Promise<boolean> {
    const url = this.#url(`blobs/${blob.digest}`);
    const response = await this.#head({ method: 'HEAD', url }, `the blob ${this.#named(blob.digest)}`);
    if (response === undefined) return false;
    const length = response.headers['content-length'];
    return length === undefined || Number(length) === blob.size;
  }

  /** The bytes, verified. */
  async getBlob(blob: BlobId, onBytes?: OnBytes): Promise<Buffer> {
    const what = `the blob ${this.#named(blob.digest)}`;
    const wrongLength = (): BangerError =>
      new BangerError('verify_failed', `${what} is not ${blob.size} bytes long, as its manifest says`);
    const url = this.#url(`blobs/${blob.digest}`);
    return await this.#download({ method: 'GET', url }, what, this.#blobMs(blob.size), async (response) => {
      const hash = createHash('sha256');
      let received = 0;
      const bytes = await readBody(response, what, {
        maxBytes: blob.size,
        tooMuch: wrongLength,
        onChunk: (chunk) => {
          hash.update(chunk);
          received += chunk.length;
          onBytes?.(received);
        },
      });
      if (bytes.length !== blob.size) throw wrongLength();
      const digest = `sha256:${hash.digest('hex')}`;
      if (digest !== blob.digest) throw mismatch(what, blob.digest, digest);
      return bytes;
    });
  }

  /** Uploads in one piece: a session, then all bytes. */
  async putBlob(blob: BlobId, bytes: Uint8Array, onBytes?: OnBytes): Promise<void> {
    const what = `the blob ${this.#named(blob.digest)}`;
    await withDeadline(this.#signal, this.#blobMs(blob.size), `sending ${what}`, async (signal) => {
      const start = this.#url('blobs/uploads/');
      const session = await this.#call({ method: 'POST', url: start, body: Buffer.alloc(0) }, signal);
      await this.#expect(session, [202], what);
      session.close();
      const url = nextUrl(session.headers.location, start);
      url.searchParams.set('digest', blob.digest);
      const response = await this.#call(
        {
          method: 'PUT',
          url,
          headers: { 'content-type': 'application/octet-stream' },
          body: bytes,
          ...(onBytes === undefined ? {} : { onSent: onBytes }),
        },
        signal,
      );
      await this.#expect(response, [201], what);
      assertAnnounced(response, what, blob.digest);
    });
  }

  #url(path: string): URL {
    return new URL(`${this.#repository.origin}/v2/${this.#repository.name}/${path}`);
  }

  #named(version: string): string {
    return formatReference(this.#repository, version);
  }

  #blobMs(size: number): number {
    return this.#limits.requestMs + (size / this.#limits.slowestBytesPerSecond) * 1000;
  }

  /** Undefined: there is none. */
  async #head(call: Call, what: string): Promise<HttpResponse | undefined> {
    return await this.#download(call, what, this.#limits.requestMs, async (response) => {
      response.close();
      if (response.status === 404) return undefined;
      return response;
    });
  }

  /** A request without effects: repeated when the connection is lost, also in the middle of the body. */
  async #download<T>(
    call: Call,
    what: string,
    deadlineMs: number,
    read: (response: HttpResponse) => Promise<T>,
  ): Promise<T> {
    const statuses = call.method === 'HEAD' ? [200, 404] : [200];
    return await withDeadline(this.#signal, deadlineMs, `reading ${what}`, async (signal) => {
      for (let attempt = 1; ; attempt += 1) {
        try {
          const response = await this.#call(call, signal);
          await this.#expect(response, statuses, what);
          return await read(response);
        } catch (error) {
          if (!(error instanceof ConnectionLost) || attempt >= MAX_LOST_ATTEMPTS) throw error;
          await sleep(this.#limits.retryDelayMs * 2 ** (attempt - 1), signal);
        }
      }
    });
  }

  /** One request with the login, a new one when the registry asks for it, and redirects where they are allowed. */
  async #call(call: Call, signal: AbortSignal): Promise<HttpResponse> {
    let { url } = call;
    let renewed = false;
    for (let redirects = 0; ; ) {
      const own = url.origin === this.#repository.origin;
      const authorization = own ? this.#login.header : undefined;
      const headers = {
        'accept-encoding': 'identity',
        'user-agent': 'banger',
        ...call.headers,
        ...(authorization === undefined ? {} : { authorization }),
      };
      const response = await sendPatiently(this.#exchange, { ...call, url, headers, signal }, this.#limits);
      if (response.status === 401 && own && !renewed) {
        renewed = true;
        response.close();
        await this.#login.renew(response.headers['www-authenticate'], signal);
        continue;
      }
      const mayFollow = call.method === 'GET' || call.method === 'HEAD';
      if (!mayFollow || ![301, 302, 303, 307, 308].includes(response.status)) return response;
      response.close();
      redirects += 1;
      if (redirects > MAX_REDIRECTS) {
        throw new BangerError('unavailable', `${call.url.host} redirects more than ${MAX_REDIRECTS} times`);
      }
      url = nextUrl(response.headers.location, url);
    }
  }

  /** @throws {BangerError} unless the status is one of `statuses` */
  async #expect(response: HttpResponse, statuses: readonly number[], what: string): Promise<void> {
    const { status } = response;
    if (statuses.includes(status)) return;
    const codes = await reportedCodes(response);
    // Where a registry keeps its blobs elsewhere, that place knows no logins of ours.
    const own = response.url.origin === this.#repository.origin;
    if (own && (status === 401 || status === 403)) throw this.#login.refused();
    const host = own ? this.#repository.registry : response.url.host;
    if (status === 404) throw new BangerError('not_found', `${host} does not have ${what}`);
    if (status === 413) throw new BangerError('limit_exceeded', `${what} is too large for ${host}`);
    const report = codes.length === 0 ? '' : `: ${codes.join(', ')}`;
    throw new BangerError('unavailable', `${host} answered HTTP ${status} for ${what}${report}`);
  }
}

function mediaTypeOf(response: HttpResponse): string {
  return (response.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
}

/** Other algorithms than ours are no help, and no error. */
function announcedDigest(response: HttpResponse): string | undefined {
  const header = response.headers['docker-content-digest'];
  return typeof header === 'string' && isDigest(header) ? header : undefined;
}

function assertAnnounced(response: HttpResponse, what: string, digest: string): void {
  const announced = announcedDigest(response);
  response.close();
  if (announced !== undefined && announced !== digest) throw mismatch(what, digest, announced);
}

function mismatch(what: string, expected: string, found: string): BangerError {
  return new BangerError(
    'verify_failed',
    `${what} is not what it should be: ${found} instead of ${expected}`,
  );
}
