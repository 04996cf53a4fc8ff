/** The logins that docker, podman and skopeo keep: docker's config.json and its credential helpers. */

import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { readJsonFile } from '../host/files.ts';
import type { CommandRunner } from '../host/runner.ts';

export type Credential =
  | { readonly kind: 'password'; readonly user: string; readonly password: string }
  /** An OAuth2 refresh token. */
  | { readonly kind: 'identity-token'; readonly token: string };

export interface CredentialLookup {
  readonly credential: Credential | undefined;
  /** Why there may be one that could not be read. Without secrets. */
  readonly problem: string | undefined;
}

export interface CredentialSource {
  /** Where `docker login` would put it: for messages. */
  readonly file: string;
  /** Never throws for what is wrong with the user's files: much can be pulled without a login. */
  lookup(registry: string, signal: AbortSignal): Promise<CredentialLookup>;
}

const MAX_CONFIG_BYTES = 1024 * 1024;
const MAX_HELPER_OUTPUT_BYTES = 64 * 1024;
const HELPER_TIMEOUT_MS = 30_000;
const MAX_SECRET_LENGTH = 16 * 1024;
const HELPER_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** docker-credential-helpers prints this and exits with status 1. */
const HELPER_HAS_NONE = /credentials not found/i;
const DOCKER_HUB = 'docker.io';
/** The name Docker Hub has in these files for historical reasons. */
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';
const NONE: CredentialLookup = { credential: undefined, problem: undefined };

/** `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`. */
export function dockerCredentials(
  env: Readonly<Record<string, string | undefined>>,
  runner: Pick<CommandRunner, 'run'>,
): CredentialSource {
  const dir = nonEmpty(env['DOCKER_CONFIG']) ?? join(nonEmpty(env['HOME']) ?? '/', '.docker');
  const file = join(dir, 'config.json');
  return {
    file,
    lookup: async (registry, signal) => {
      let config: unknown;
      try {
        config = await readJsonFile(file, MAX_CONFIG_BYTES);
      } catch (error) {
        return { ...NONE, problem: error instanceof BangerError ? error.message : `${file} cannot be read` };
      }
      if (config === undefined) return NONE;
      if (!isRecord(config)) return { ...NONE, problem: `${file} is not an object` };
      return await lookUp(config, registry, (name) => askHelper(runner, name, serverName(registry), signal));
    },
  };
}

async function lookUp(
  config: Record<string, unknown>,
  registry: string,
  ask: (helper: string) => Promise<CredentialLookup>,
): Promise<CredentialLookup> {
  const helper = entryOf(config['credHelpers'], registry) ?? config['credsStore'];
  const answer = typeof helper === 'string' && helper !== '' ? await ask(helper) : NONE;
  if (answer.credential !== undefined) return answer;
  const entry = entryOf(config['auths'], registry);
  const inline = isRecord(entry) ? inlineCredential(entry) : undefined;
  return inline === undefined ? answer : { credential: inline, problem: undefined };
}

function inlineCredential(entry: Record<string, unknown>): Credential | undefined {
  const { identitytoken, auth } = entry;
  if (isSecret(identitytoken)) return { kind: 'identity-token', token: identitytoken };
  if (!isSecret(auth)) return undefined;
  const text = Buffer.from(auth, 'base64').toString('utf8').replace(/\0+$/, '');
  const colon = text.indexOf(':');
  return colon < 1 ? undefined : passwordOf(text.slice(0, colon), text.slice(colon + 1));
}

/** The docker-credential-helpers protocol: the server's name on stdin, JSON on stdout. */
async function askHelper(
  runner: Pick<CommandRunner, 'run'>,
  name: string,
  server: string,
  signal: AbortSignal,
): Promise<CredentialLookup> {
  // Without its name: who wrote it may have put anything there.
  if (!HELPER_NAME.test(name)) return { ...NONE, problem: 'the name of the credential helper is not valid' };
  const program = `docker-credential-${name}`;
  // What a helper prints may be a secret: none of it goes into the message, nor does the runner's error.
  const failed: CredentialLookup = { ...NONE, problem: `${program} gave no credentials` };
  let result: { stdout: Buffer; status: number };
  try {
    result = await runner.run([program, 'get'], {
      input: server,
      signal,
      timeoutMs: HELPER_TIMEOUT_MS,
      maxOutputBytes: MAX_HELPER_OUTPUT_BYTES,
      okStatuses: [0, 1],
    });
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    if (error.code === 'dependency_missing') return { ...NONE, problem: `${program} is not installed` };
    if (error.code === 'timeout') return { ...NONE, problem: `${program} did not finish in time` };
    return failed;
  }
  const text = result.stdout.toString('utf8');
  if (result.status === 1) return HELPER_HAS_NONE.test(text) ? NONE : failed;
  const answer = parsed(text);
  if (!isRecord(answer)) return failed;
  const { Username, Secret } = answer;
  if (typeof Username !== 'string' || !isSecret(Secret)) return failed;
  const credential: Credential | undefined =
    Username === '<token>' ? { kind: 'identity-token', token: Secret } : passwordOf(Username, Secret);
  return credential === undefined ? failed : { credential, problem: undefined };
}

/** RFC 7617: no control characters, and no colon in the user's name. */
function passwordOf(user: string, password: string): Credential | undefined {
  const plain = !/[\x00-\x1f\x7f]/.test(user + password);
  return plain && !user.includes(':') ? { kind: 'password', user, password } : undefined;
}

/** Of an object with registries as keys: first the exact name, then keys that are URLs of it. */
function entryOf(table: unknown, registry: string): unknown {
  if (!isRecord(table)) return undefined;
  for (const key of namesOf(registry)) if (Object.hasOwn(table, key)) return table[key];
  const names = namesOf(registry);
  return Object.entries(table).find(([key]) => names.includes(hostOf(key)))?.[1];
}

function namesOf(registry: string): readonly string[] {
  return registry === DOCKER_HUB
    ? [DOCKER_HUB_KEY, DOCKER_HUB, 'index.docker.io', 'registry-1.docker.io']
    : [registry];
}

function serverName(registry: string): string {
  return registry === DOCKER_HUB ? DOCKER_HUB_KEY : registry;
}

function hostOf(key: string): string {
  return key.replace(/^https?:\/\//, '').replace(/\/.*$/s, '');
}

function isSecret(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= MAX_SECRET_LENGTH;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}
