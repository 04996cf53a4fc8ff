/** Records of a pax extended header: `<length> <key>=<value>\n`, the length counting the whole record. */

import { BangerError } from '../core/errors.ts';

export type PaxRecords = ReadonlyMap<string, Buffer>;

const MAX_RECORDS = 1024;

/** @throws {BangerError} `bad_request` */
export function parsePaxRecords(bytes: Buffer): PaxRecords {
  const records = new Map<string, Buffer>();
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(0x20, at);
    const digits = space === -1 ? '' : bytes.toString('latin1', at, space);
    const length = /^\d{1,8}$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    const equals = bytes.indexOf(0x3d, space);
    if (length === 0 || end > bytes.length || bytes[end - 1] !== 0x0a || equals === -1 || equals >= end) {
      throw new BangerError('bad_request', 'the tar archive is damaged: an extended header does not parse');
    }
    if (records.size === MAX_RECORDS) {
      throw new BangerError(
        'bad_request',
        'the tar archive is damaged: an extended header has too many records',
      );
    }
    records.set(
      bytes.toString('latin1', space + 1, equals),
      Buffer.from(bytes.subarray(equals + 1, end - 1)),
    );
    at = end;
  }
  return records;
}
