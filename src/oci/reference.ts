/** Names of things in registries: `REGISTRY[:PORT]/NAME[:TAG][@sha256:…]`. */

import { BangerError } from '../core/errors.ts';
import { parseDigest } from './digest.ts';
import { quoted } from './quoted.ts';

/** A repository of a registry. */
export interface Repository {
  /** `registry.example.com:5000`, as credentials are filed under it: lower case, port only when it was written. */
  readonly registry: string;
  /** Where its API is: `https://registry.example.com:5000`, without a slash at the end. Plain http only on loopback. */
  readonly origin: string;
  /** `library/node` */
  readonly name: string;
}

export interface Reference extends Repository {
  readonly tag: string | undefined;
  /** Decides, when there is a tag, too. */
  readonly digest: string | undefined;
}

/** OCI distribution specification v1.1, "Pulling manifests": the grammars of `<name>` and of a tag. */
const NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
/** The specification: many clients limit host and name together to 255 characters. */
const MAX_REPOSITORY_LENGTH = 255;
const MAX_REFERENCE_LENGTH = 512;
const MAX_PORT = 65_535;

const LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const HOST = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-f:.]{2,45}\\])$`);

const DOCKER_HUB = 'docker.io';
const DOCKER_HUB_API = 'registry-1.docker.io';

/**
 * A repository without tag and digest.
 * @throws {BangerError} `bad_request` saying which part is wrong
 */
export function parseRepository(text: string): Repository {
  const reference = parseReference(text);
  if (reference.tag === undefined && reference.digest === undefined) return reference;
  throw new BangerError('bad_request', `${quoted(text)} names more than a repository`, {
    hint: `leave the tag or digest away: ${reference.registry}/${reference.name}`,
  });
}

/** @throws {BangerError} `bad_request` saying which part is wrong */
export function parseReference(text: string): Reference {
  if (text.length > MAX_REFERENCE_LENGTH) throw invalid(text, 'it is too long');
  const [rest = '', digestText, more] = text.split('@');
  if (more !== undefined) throw invalid(text, 'it has more than one @');
  const digest = digestText === undefined ? undefined : parseDigest(digestText);
  const slash = rest.indexOf('/');
  if (slash < 1)
    throw invalid(text, 'it must begin with a registry', `docker.io/library/${rest === '' ? 'NAME' : rest}`);
  const registry = canonicalRegistry(text, rest.slice(0, slash).toLowerCase());
  const path = rest.slice(slash + 1);
  const colon = path.indexOf(':');
  const name = withDefaultFolder(registry, colon < 0 ? path : path.slice(0, colon));
  const tag = colon < 0 ? undefined : parseTag(path.slice(colon + 1));
  if (!NAME.test(name)) {
    throw invalid(
      text,
      `${quoted(name)} is no repository name: lower-case letters, digits, and . _ - / between`,
    );
  }
  if (registry.length + 1 + name.length > MAX_REPOSITORY_LENGTH) {
    throw invalid(text, `registry and name are longer than ${MAX_REPOSITORY_LENGTH} characters`);
  }
  return { registry, origin: originOf(registry), name, tag, digest };
}

/**
 * Returns `text` when it is a tag.
 * @throws {BangerError} `bad_request`
 */
export function parseTag(text: string): string {
  if (TAG.test(text)) return text;
  throw new BangerError('bad_request', `${quoted(text)} is not a tag`, {
    hint: 'a tag is up to 128 letters, digits and . _ -, beginning with a letter, a digit or _',
  });
}

/** `registry.example.com/team/state@sha256:…`, as a pull takes it. */
export function formatReference(repository: Repository, version: string): string {
  return `${repository.registry}/${repository.name}${version.includes(':') ? '@' : ':'}${version}`;
}

function canonicalRegistry(text: string, authority: string): string {
  const match = /^(.*?)(?::(\d{1,5}))?$/.exec(authority);
  const [, host = '', port] = match ?? [];
  if (!HOST.test(host)) throw invalid(text, `${quoted(authority)} is no registry`);
  if (port !== undefined && (Number(port) < 1 || Number(port) > MAX_PORT)) {
    throw invalid(text, `${port} is no port`);
  }
  // As docker reads it: a first part without a dot or a port is a folder of Docker Hub, and easily a typing error here.
  if (!/[.:]/.test(authority) && host !== 'localhost') {
    throw invalid(text, 'it must begin with a registry', `docker.io/${text}`);
  }
  if (!URL.canParse(`https://${authority}`)) throw invalid(text, `${quoted(authority)} is no registry`);
  return authority === 'index.docker.io' ? DOCKER_HUB : authority;
}

function withDefaultFolder(registry: string, name: string): string {
  return registry === DOCKER_HUB && !name.includes('/') ? `library/${name}` : name;
}

function originOf(registry: string): string {
  if (registry === DOCKER_HUB) return `https://${DOCKER_HUB_API}`;
  // The URL parser reads 0x7f.1 and 2130706433 as addresses, too: decide by what will be connected to.
  const secure = new URL(`https://${registry}`);
  return isLoopbackHost(secure.hostname) ? new URL(`http://${registry}`).origin : secure.origin;
}

/** Whether bytes to this host cannot leave the machine. `hostname` as the URL parser writes it. */
export function isLoopbackHost(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(hostname);
}

function invalid(text: string, why: string, example = 'registry.example.com/NAME'): BangerError {
  return new BangerError('bad_request', `${quoted(text)} names nothing in a registry: ${why}`, {
    hint: `write, for example, ${example}`,
  });
}
