/** A registry in memory that serves one snapshot, and does to single requests whatever a test wants. */

import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { digestOf } from '../../src/oci/digest.ts';
import { OCI_MANIFEST } from '../../src/oci/media-types.ts';
import { encodeArtifact } from '../../src/state/artifact.ts';
import type { Snapshot } from '../../src/state/export.ts';

export interface Artifact {
  readonly digest: string;
  readonly manifest: Buffer;
  readonly blobs: ReadonlyMap<string, Buffer>;
}

export function artifactOf(snapshot: Snapshot): Artifact {
  const { manifest, manifestBytes, data } = snapshot;
  const config = { digest: digestOf(manifestBytes), size: manifestBytes.length };
  const bytes = encodeArtifact(manifest, config);
  const blobs = new Map([
    [config.digest, manifestBytes],
    [manifest.encoded_checksum, data],
  ]);
  return { digest: digestOf(bytes), manifest: bytes, blobs };
}

/** Answers a request itself and returns true, or leaves it to the good registry. */
export type Script = (request: IncomingMessage, response: ServerResponse, count: number) => boolean;

/** `manifest`, `config`, `layer`, `upload` (POST), `put`, or `other`. */
export type Part = 'manifest' | 'config' | 'layer' | 'upload' | 'put' | 'other';

export class ScriptedRegistry implements AsyncDisposable {
  /** `METHOD /path`, in order. */
  readonly requests: string[] = [];
  readonly #server: Server;
  readonly #artifact: Artifact;
  #script: Script = () => false;

  constructor(artifact: Artifact, server: (listener: RequestListener) => Server = createServer) {
    this.#artifact = artifact;
    this.#server = server((request, response) => {
      this.requests.push(`${request.method} ${request.url}`);
      if (!this.#script(request, response, this.requests.length)) this.#serve(request, response);
    });
  }

  /** `127.0.0.1:PORT` */
  async start(): Promise<string> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve);
    });
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  run(script: Script): void {
    this.requests.length = 0;
    this.#script = script;
  }

  partOf(request: IncomingMessage): Part {
    const { method, url = '' } = request;
    if (method === 'PUT') return 'put';
    if (method === 'POST') return 'upload';
    if (url.includes('/manifests/')) return 'manifest';
    const [config, layer] = [...this.#artifact.blobs.keys()];
    if (url.endsWith(`/blobs/${config}`)) return 'config';
    return url.endsWith(`/blobs/${layer}`) ? 'layer' : 'other';
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const part = this.partOf(request);
    const digest = (request.url ?? '').split('/').at(-1) ?? '';
    request.resume();
    if (part === 'upload') response.writeHead(202, { location: '/upload/1?state=x' }).end();
    else if (part === 'put') request.once('end', () => response.writeHead(201).end());
    else if (part === 'manifest') answer(response, this.#artifact.manifest, { 'content-type': OCI_MANIFEST });
    else {
      const blob = this.#artifact.blobs.get(digest);
      if (blob === undefined) response.writeHead(404).end();
      else answer(response, blob);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}

export function answer(
  response: ServerResponse,
  body: Buffer | string,
  headers: Readonly<Record<string, string>> = {},
  status = 200,
): void {
  response.writeHead(status, { 'content-length': String(Buffer.byteLength(body)), ...headers }).end(body);
}
