/** Makes a disk from elsewhere one of ours: on our base, with a header of ours, and with tables that QEMU finds sound. */

import { open } from 'node:fs/promises';
import { BangerError, errorText } from '../core/errors.ts';
import type { CommandRunner } from '../host/runner.ts';
import { overlayHeader, type OverlayShape } from './qcow2.ts';
import { OVERLAY_HEADER_BYTES, readForeignOverlay } from './qcow2-foreign.ts';

const CHECK_TIMEOUT_MS = 5 * 60_000;
/** qemu-img(1): 3 is clusters that nothing uses, which a VM that was stopped hard leaves. */
const SOUND: readonly number[] = [0, 3];

/**
 * @param overlay `path` is the file; the rest is what it must be and what it is to stand on
 * @throws {BangerError} `verify_failed`, `timeout`, `dependency_missing`, `cancelled`, `io_error`
 */
export async function adoptOverlay(
  overlay: OverlayShape & { readonly path: string },
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<void> {
  const { path, sizeBytes } = overlay;
  await using file = await open(path, 'r+');
  const start = Buffer.alloc(OVERLAY_HEADER_BYTES);
  const { bytesRead } = await file.read(start, 0, start.length, 0);
  const { size } = await file.stat();
  const foreign = readForeignOverlay(start.subarray(0, bytesRead), size);
  if (foreign.sizeBytes !== sizeBytes) {
    throw new BangerError('verify_failed', `the disk has ${foreign.sizeBytes} bytes, not ${sizeBytes}`);
  }
  const header = Buffer.alloc(OVERLAY_HEADER_BYTES);
  header.set(overlayHeader(overlay, foreign.tables));
  await file.write(header, 0, header.length, 0);
  await check(path, runner, signal);
}

/** With our header in place QEMU opens nothing but the disk and our base. */
async function check(path: string, runner: CommandRunner, signal: AbortSignal): Promise<void> {
  const argv = ['qemu-img', 'check', '-q', '-f', 'qcow2', path] as const;
  try {
    await runner.run(argv, { signal, timeoutMs: CHECK_TIMEOUT_MS, okStatuses: SOUND });
  } catch (error) {
    if (!(error instanceof BangerError) || error.code !== 'io_error') throw error;
    throw new BangerError('verify_failed', `the disk is damaged: ${errorText(error)}`, { cause: error });
  }
}
