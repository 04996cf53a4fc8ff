/** Unpacks a Debian binary package without dpkg. Sources: deb(5), ar(5). */

import { createReadStream, createWriteStream } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import * as zlib from 'node:zlib';
import { unpackTar } from 'modern-tar/fs';
import { BangerError } from '../core/errors.ts';
import type { CommandRunner } from '../host/runner.ts';

export interface ArMember {
  readonly name: string;
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface UnpackDebOptions {
  readonly debPath: string;
  /** Existing directory that receives the chosen entries, and a temporary file meanwhile. */
  readonly targetDir: string;
  /** Which entries of the package to unpack, by name without the leading `./`. */
  readonly wanted: (name: string) => boolean;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

const AR_MAGIC = '!<arch>\n';
const AR_HEADER_BYTES = 60;
const MAX_AR_MEMBERS = 16;
const XZ_TIMEOUT_MS = 5 * 60_000;

/**
 * The members of an ar archive.
 * @throws {BangerError} `bad_request`
 */
export async function listArMembers(file: FileHandle): Promise<readonly ArMember[]> {
  const { size } = await file.stat();
  const magic = await readAt(file, 0, AR_MAGIC.length);
  if (magic.toString('latin1') !== AR_MAGIC) throw notADeb('it does not begin as an ar archive');
  const members: ArMember[] = [];
  for (let at = AR_MAGIC.length; at + AR_HEADER_BYTES <= size; ) {
    const header = (await readAt(file, at, AR_HEADER_BYTES)).toString('latin1');
    const sizeBytes = Number.parseInt(header.slice(48, 58), 10);
    const offset = at + AR_HEADER_BYTES;
    if (
      header.slice(58) !== '`\n' ||
      !Number.isSafeInteger(sizeBytes) ||
      sizeBytes < 0 ||
      offset + sizeBytes > size
    ) {
      throw notADeb('it is damaged or cut off');
    }
    if (members.length === MAX_AR_MEMBERS) throw notADeb('it has too many members');
    members.push({ name: header.slice(0, 16).trimEnd().replace(/\/$/, ''), offset, sizeBytes });
    at = offset + sizeBytes + (sizeBytes % 2);
  }
  return members;
}

/**
 * Unpacks the chosen files of a package.
 * @throws {BangerError} `bad_request` (no package, or damaged), `dependency_missing` (xz), `cancelled`
 */
export async function unpackDeb(options: UnpackDebOptions): Promise<void> {
  await using file = await open(options.debPath, 'r');
  const members = await listArMembers(file);
  const data = members.find(({ name }) => /^data\.tar(\.(xz|gz|zst))?$/.test(name));
  if (data === undefined) throw notADeb('it has no data.tar in a compression we know');
  const plainTar = await plainDataTar(options, data);
  try {
    const filter = (header: { readonly name: string }) => options.wanted(header.name.replace(/^\.\//, ''));
    await pipeline([...plainTar.streams, unpackTar(options.targetDir, { strict: true, filter })], {
      signal: options.signal,
    });
  } finally {
    if (plainTar.tempFile !== undefined) await rm(plainTar.tempFile, { force: true });
  }
}

interface PlainTar {
  readonly streams: readonly [NodeJS.ReadableStream, ...NodeJS.ReadWriteStream[]];
  readonly tempFile?: string;
}

/** Node has no xz: that compression goes through the program, from file to file, because the plain tar is large. */
async function plainDataTar(
  { debPath, targetDir, runner, signal }: UnpackDebOptions,
  data: ArMember,
): Promise<PlainTar> {
  const packed = createReadStream(debPath, { start: data.offset, end: data.offset + data.sizeBytes - 1 });
  if (data.name.endsWith('.gz')) return { streams: [packed, zlib.createGunzip()] };
  if (data.name.endsWith('.zst')) return { streams: [packed, zlib.createZstdDecompress()] };
  if (data.name.endsWith('.tar')) return { streams: [packed] };
  const packedFile = join(targetDir, '.data.tar.xz');
  await pipeline(packed, createWriteStream(packedFile, { flags: 'wx' }), { signal });
  await runner.run(['xz', '--decompress', packedFile], { signal, timeoutMs: XZ_TIMEOUT_MS });
  const tempFile = join(targetDir, '.data.tar');
  return { streams: [createReadStream(tempFile)], tempFile };
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  if (bytesRead !== length) throw notADeb('it is cut off');
  return buffer;
}

function notADeb(why: string): BangerError {
  return new BangerError('bad_request', `not a usable Debian package: ${why}`);
}
