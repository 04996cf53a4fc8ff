/** Decompresses what Node can, and asks the usual program for the rest. */

import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import { BangerError, errorText, unreachable } from '../core/errors.ts';
import type { CommandRunner } from '../host/runner.ts';
import type { Compression } from './vmlinux.ts';

export interface DecompressOptions {
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
  /** More than this is an error, before it is allocated. */
  readonly maxPlainBytes: number;
}

const TIMEOUT_MS = 120_000;
const gunzip = promisify(zlib.gunzip);
const zstdDecompress = promisify(zlib.zstdDecompress);

/**
 * The plain bytes of one compressed stream.
 * @throws {BangerError} `bad_request` (damaged, or more than allowed), `dependency_missing`, `cancelled`, `timeout`
 */
export async function decompress(
  compression: Compression,
  bytes: Uint8Array,
  options: DecompressOptions,
): Promise<Uint8Array> {
  options.signal.throwIfAborted();
  try {
    return await dispatch(compression, bytes, options);
  } catch (error) {
    if (error instanceof BangerError && error.code !== 'io_error' && error.code !== 'limit_exceeded')
      throw error;
    throw new BangerError('bad_request', `cannot decompress ${compression} data: ${errorText(error)}`, {
      cause: error,
    });
  }
}

function dispatch(
  compression: Compression,
  bytes: Uint8Array,
  options: DecompressOptions,
): Promise<Uint8Array> {
  const limit = { maxOutputLength: options.maxPlainBytes };
  switch (compression) {
    case 'none':
      return Promise.resolve(bytes);
    case 'gzip':
      return gunzip(bytes, limit);
    case 'zstd':
      return zstdDecompress(bytes, limit);
    case 'xz':
      return byProgram(['xz', '--decompress', '--stdout', '--format=xz'], bytes, options);
    case 'lzma':
      return byProgram(['xz', '--decompress', '--stdout', '--format=lzma'], bytes, options);
    case 'bzip2':
      return byProgram(['bzip2', '--decompress', '--stdout'], bytes, options);
    case 'lz4':
      return byProgram(['lz4', '-d', '-c'], bytes, options);
    case 'lzo':
      return byProgram(['lzop', '--decompress', '--stdout'], bytes, options);
    default:
      return unreachable(compression);
  }
}

async function byProgram(
  argv: readonly [string, ...string[]],
  input: Uint8Array,
  { runner, signal, maxPlainBytes }: DecompressOptions,
): Promise<Uint8Array> {
  const result = await runner.run(argv, {
    input,
    signal,
    timeoutMs: TIMEOUT_MS,
    maxOutputBytes: maxPlainBytes,
  });
  return result.stdout;
}
