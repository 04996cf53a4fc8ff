/** The daemon's log: JSON lines, one file, bounded. */

import { chmodSync, constants, copyFileSync, fchmodSync, openSync, statSync, truncateSync } from 'node:fs';
import pino from 'pino';
import type { LogLevel } from './log-level.ts';

/** What writers of log lines need; pino's own order of arguments. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  /** A log whose every line carries these fields too, `operationId` above all. An error goes under `err`. */
  child(fields: Readonly<Record<string, unknown>>): Log;
}

export interface LoggerOptions {
  readonly level: LogLevel;
  /** Appended to; made with mode 0600. */
  readonly file: string;
  /** A larger file is moved to `<file>.1` first. Default 8 MiB. */
  readonly maxBytes?: number;
}

const MAX_BYTES = 8 * 1024 * 1024;

/** Lines are written before the call returns: the last one before a crash is the one that matters. */
export function createLogger(options: LoggerOptions): Log {
  const { file, level } = options;
  rotateLog(file, options.maxBytes ?? MAX_BYTES);
  const descriptor = openSync(file, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o600);
  fchmodSync(descriptor, 0o600);
  return pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: asText },
    },
    pino.destination({ dest: descriptor, sync: true }),
  );
}

function asText(label: string): { level: string } {
  return { level: label };
}

/** Drops every line: for tests and for parts that run without a daemon. */
export const NO_LOG: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => NO_LOG,
};

/**
 * Copies a log beyond its limit to `<file>.1` (replacing that) and empties it in place, so that writers which hold it
 * open for appending, as the daemon's own stderr does, go on in the same file. Missing is fine. True when it rotated.
 */
export function rotateLog(file: string, maxBytes = MAX_BYTES): boolean {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined || stat.size <= maxBytes) return false;
  const previous = `${file}.1`;
  copyFileSync(file, previous);
  chmodSync(previous, 0o600);
  truncateSync(file, 0);
  return true;
}
